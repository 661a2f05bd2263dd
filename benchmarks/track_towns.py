"""Rendered towns through time, whose truth is exact, and how well houses are followed in them.

Houses appear and vanish; each date has its own sun, cars, trees and grain, and lies up to 1 m off; at one date clouds
hide a part. An event counts where a house and an object that share half of either's ground appear (or vanish) between
the same two dates; `f1_sd` is the standard error by drawing towns anew (bootstrap). `presence` is told of each house
and date at which its ground is seen: how often an object lies there where the house stands, how often none where it
does not, and the mean of the two (balanced).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import shapely
from affine import Affine
from rasterio.features import rasterize

from hybridseg import track
from townscape.layout import plan_town
from townscape.paint import paint
from townscape.plan import Plan

HALF = 0.5
SEEDS = (411, 412, 413, 501, 502, 503)
"""Towns that nothing was trained on or chosen by."""
FRESH = tuple(range(601, 613))
"""As many again and more, for a steadier figure: named before anything was measured on them."""
CHOSEN_BY = tuple(range(421, 445))
"""Towns that settings were chosen by, see `benchmarks.track_fit`."""
DATES, SIDE_PX, GSD_M = 4, 512, 0.3
VANISH, APPEAR = 0.12, 0.12
OFF_M = 1.0
Sums = dict[str, list[Any]]
"""What was counted in a town, by name."""
ORIGIN = (354_000.0, 3_057_000.0)
CRS = "EPSG:32645"


@dataclass(frozen=True)
class Sequence_:
    """A rendered town through time.

    files, masks: of each date. houses: roofs where they are. there: (N, T) bool. hidden: (N, T) bool, under a cloud.
    """

    files: list[Path]
    masks: list[Path]
    houses: list[shapely.Polygon]
    there: np.ndarray
    hidden: np.ndarray


def render(seed: int, folder: Path, dates: int = DATES, side_px: int = SIDE_PX) -> Sequence_:
    """Render a town at several dates."""
    rng = np.random.default_rng(seed)
    shape = (side_px, side_px)
    plan: Plan = plan_town(shape, GSD_M, float(rng.uniform(0.2, 0.7)), rng)
    frame = shapely.box(0, 0, side_px * GSD_M, side_px * GSD_M)
    count = len(plan.houses)
    there = np.ones((count, dates), bool)
    fate, when = rng.random(count), rng.integers(1, dates, count)
    for row in range(count):
        if fate[row] < VANISH:
            there[row, when[row] :] = False
        elif fate[row] < VANISH + APPEAR:
            there[row, : when[row]] = False
    top = ORIGIN[1] + side_px * GSD_M
    roofs = [shapely.transform(h.roof, lambda xy: xy + ORIGIN) for h in plan.houses]
    cloud = shapely.Point(*(rng.uniform(0.2, 0.8, 2) * side_px * GSD_M)).buffer(0.18 * side_px * GSD_M)
    hidden = np.zeros_like(there)
    files, masks = [], []
    for date in range(dates):
        houses = [h for h, on in zip(plan.houses, there[:, date], strict=True) if on]
        image, _ = paint(replace(plan, houses=houses), np.random.default_rng([seed, date]))
        off = rng.uniform(-OFF_M, OFF_M, 2) / np.sqrt(2) if date else np.zeros(2)
        clear = np.ones(shape, np.uint8)
        if date == dates // 2:
            placed = shapely.transform(
                cloud, lambda xy: np.column_stack([xy[:, 0], side_px * GSD_M - xy[:, 1]]) / GSD_M
            )
            clear = 1 - rasterize([placed], shape, dtype=np.uint8)
            image = np.where(clear, image, 235)
            hidden[:, date] = [h.roof.intersection(cloud).area > HALF * h.roof.area for h in plan.houses]
        placed_at = Affine(GSD_M, 0, ORIGIN[0] + off[0], 0, -GSD_M, top + off[1])
        profile = {"driver": "GTiff", "height": side_px, "width": side_px, "crs": CRS, "compress": "deflate",
                   "transform": placed_at, "dtype": "uint8"}  # fmt: skip
        files.append(folder / f"town_{seed}_{2010 + date}.tif")
        masks.append(folder / f"clear_{seed}_{2010 + date}.tif")
        with rasterio.open(files[-1], "w", count=3, photometric="RGB", **profile) as file:
            file.write(image)
        with rasterio.open(masks[-1], "w", count=1, **profile) as file:
            file.write(clear, 1)
    inside = [bool(h.roof.within(frame)) for h in plan.houses]
    keep = np.flatnonzero(inside)
    return Sequence_(files, masks, [roofs[k] for k in keep], there[keep], hidden[keep])


def towns(seeds: Sequence[int], folder: Path, memory: bool, rendered: dict[int, Sequence_]) -> list[Sums]:
    """Follow houses, and count: of each town."""
    counted = []
    for seed in seeds:
        if seed not in rendered:
            rendered[seed] = render(seed, folder)
        place = rendered[seed]
        made = track(place.files, theme="buildings", clear_mask=place.masks, memory=memory, run=folder / f"run{seed}")
        counted.append(_score(place, made))
    return counted


def rates(counted: Sequence[Sums]) -> dict[str, Any]:
    """Figures of all towns together."""

    def joined(name: str) -> list[Any]:
        return [value for sums in counted for value in sums[name]]

    events = np.array([[sum(sums[name]) for name in ("tp", "pred", "true")] for sums in counted])
    drawn = np.random.default_rng(0).integers(0, len(events), (2000, len(events)))
    precision, recall, f1 = _rates(events.sum(axis=0))
    f1_sd = np.std([_rates(events[some].sum(axis=0))[2] for some in drawn])
    there, gone, net = float(np.mean(joined("hit"))), float(np.mean(joined("free"))), joined("net")
    return {
        "events": int(events[:, 2].sum()), "precision": round(precision, 3), "recall": round(recall, 3),
        "f1": round(f1, 3), "f1_sd": round(float(f1_sd), 3),
        "there_told": round(there, 3), "gone_told": round(gone, 3), "presence": round((there + gone) / 2, 3),
        "switches": round(float(np.mean(joined("switch"))), 4),
        "area_error": round(float(np.median(joined("area"))), 4),
        "net_within_2_errors": f"{sum(abs(z) <= 2 for z in net)} of {len(net)}",
        "shifts_told": f"{sum(joined('shift'))} of {len(joined('shift'))}",
    }  # fmt: skip


def _rates(events: np.ndarray) -> tuple[float, float, float]:
    """Precision, recall and F1 of events told rightly, told, and true."""
    right, told, true = events.tolist()
    return right / max(1, told), right / max(1, true), 2 * right / max(1, told + true)


def _score(place: Sequence_, made: Any) -> Sums:
    sums: Sums = {name: [] for name in ("tp", "pred", "true", "switch", "area", "net", "hit", "free", "shift")}
    sums["shift"] = [one["sd_m"] is not None for one in made.summary.shifts]
    rows = made.observations
    days = sorted(rows["date"].unique())
    status = rows.pivot(index="track_id", columns="date", values="status")
    outline = rows.pivot(index="track_id", columns="date", values="geometry")
    truth, sure = np.array(place.houses), ~place.hidden
    matched = np.stack([_matched(truth, place.there[:, t], outline[day].dropna()) for t, day in enumerate(days)], 1)
    for at, t in np.argwhere(place.there & sure):
        name = matched[at, t]
        sums["hit"].append(name is not None)
        if name is not None:
            sums["area"].append(abs(outline.loc[name, days[t]].area / truth[at].area - 1))
    for t, day in enumerate(days):
        bare = np.flatnonzero(~place.there[:, t] & sure[:, t])
        sums["free"] += [not any(same(truth[[at]], one)[0] for one in outline[day].dropna()) for at in bare]
    for names in matched:
        sums["switch"] += [a != b for a, b in pairwise(name for name in names if name is not None)]
    for t in range(1, len(days)):
        both, (was, now) = sure[:, t - 1] & sure[:, t], place.there[:, t - 1 : t + 1].T
        for gone in (False, True):
            kinds = ("present", "absent") if gone else ("absent", "present")
            told = status[(status[days[t - 1]] == kinds[0]) & (status[days[t]] == kinds[1])].index
            real = np.flatnonzero((was & ~now if gone else ~was & now) & both)
            drawn = [outline.loc[name, days[t - 1] if gone else days[t]] for name in told]
            sums["tp"].append(_hits(truth, real.tolist(), drawn))
            sums["pred"].append(len(told))
            sums["true"].append(len(real))
        if both.all():
            change = made.summary.intervals[t - 1]
            net = shapely.area(truth) @ (now.astype(int) - was.astype(int))
            sums["net"].append((change.net_m2 - net) / max(change.net_sd_m2, 1e-9))
    return sums


def same(truth: np.ndarray, one: shapely.Geometry) -> np.ndarray:
    """Area (N,) shared with each house, 0 where it is not half of the smaller of the two."""
    shared = shapely.area(shapely.intersection(truth, one))
    return np.where(shared > HALF * np.minimum(shapely.area(truth), one.area), shared, 0)


def _matched(truth: np.ndarray, there: np.ndarray, found: Any) -> np.ndarray:
    """The object (N,) that shares most with each house, None where none does."""
    best, names = np.zeros(len(truth)), np.full(len(truth), None, object)
    for name, one in found.items():
        shared = same(truth, one) * there
        at = int(shared.argmax())
        if shared[at] > best[at]:
            best[at], names[at] = shared[at], name
    return names


def _hits(truth: np.ndarray, real: list[int], drawn: list[shapely.Geometry]) -> int:
    """How many of the objects are houses of `real`, each counted once."""
    left, hits = set(real), 0
    for one in drawn:
        shared = same(truth, one)
        at = max(left, key=lambda k: shared[k], default=None)
        if at is not None and shared[at] > 0:
            left.remove(at)
            hits += 1
    return hits
