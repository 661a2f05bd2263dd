"""How well objects are followed: ponds of ten real dates, and rendered towns whose truth is exact.

python -m benchmarks.track [--run FOLDER] [DATA]      writes benchmarks/results/track.json and track.md

With --run, a command that was killed goes on where it was.

Ponds: NAIP of North Dakota, ten dates from 2009 to 2020. Reference: NDWI from near infrared, at the dates at which it
parts water from land clearly (`run.themes`). Found by the RGB classifier alone (`--by-bands false`), which does not
see the near infrared; and by NDWI, which is the reference's own index and so tells of ids, not of outlines. "One id":
of the ponds that are water at all these dates (connected ground of 10 pixels or more), how many are covered for the
larger part by one and the same id at each of them; "of_covered": the same of those that objects, whichever, cover for
the larger part at each date: of a pond that an outline leaves out at a date, no tracking can tell whose it is.

Towns: see `benchmarks.track_towns`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
from rasterio.features import rasterize
from scipy import ndimage as ndi

from benchmarks.accuracy import RESULTS
from benchmarks.track_towns import FRESH, HALF, SEEDS, Sequence_, rates, towns
from hybridseg import open_scene, track
from hybridseg.nn.indices import parse_index
from hybridseg.run.themes import resolve_themes

PONDS = "timeseries/naip_north_dakota"
BANDS = {"red": 1, "green": 2, "blue": 3, "nir": 4}
LEAST_PX = 10


def reference(path: Path, grid: Any, theme: Any) -> np.ndarray | None:
    """Water by NDWI on a grid; None where the index does not part it clearly."""
    if not theme.classifier.startswith("index:"):
        return None
    index = parse_index(theme.classifier)
    chip = open_scene(path, bands=BANDS).raw([BANDS[name] for name in index.bands]).read_grid(grid)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = index(dict(zip(index.bands, chip.pixels.astype(float), strict=True)))
    return np.where(chip.valid, values > index.centre, False)


def ponds(data: Path, memory: bool, by_bands: bool, run: Path) -> dict[str, Any]:
    """Follow ponds, and measure."""
    files = sorted((data / PONDS).glob("*.tif"))
    asked: dict[str, Any] = {
        "theme": "water",
        "bands": ",".join(f"{k}={v}" for k, v in BANDS.items()),
        "refiner": "none",
        "by_bands": by_bands,
        "run": run,
    }
    made = track(files, memory=memory, align=False, **asked)
    scenes = [open_scene(file, bands=BANDS) for file in files]
    grid = scenes[0].geobox
    themes = [resolve_themes("water", scene=scene)[0] for scene in scenes]
    rows = made.observations
    days = sorted(rows["date"].unique())
    found = {}
    iou_found, iou_joined = [], []
    for day, file, theme in zip(days, files, themes, strict=True):
        truth = reference(file, grid, theme)
        if truth is None:
            continue
        here = rows[(rows["date"] == day) & rows.geometry.notna()]
        ids = {name: number for number, name in enumerate(sorted(rows["track_id"].unique()), 1)}
        joined = _burn(here.geometry, here["track_id"].map(ids), grid)
        alone = _burn(here[here["origin"] != "carried"].geometry, 1, grid)
        iou_joined.append(_iou(joined > 0, truth))
        iou_found.append(_iou(alone > 0, truth))
        found[day] = truth, joined
    always = np.logical_and.reduce([truth for truth, _ in found.values()])
    parts, count = ndi.label(always)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    held, covered = [], []
    for number in range(1, count + 1):
        if sizes[number] >= LEAST_PX:
            names = [_holder(joined[parts == number]) for _, joined in found.values()]
            held.append(names)
            covered.append(all((joined[parts == number] > 0).mean() >= HALF for _, joined in found.values()))
    one = np.array([len(set(names)) == 1 and names[0] > 0 for names in held])
    pairs = [(a, b) for names in held for a, b in pairwise(names) if a and b]
    return {
        "by": "ndwi" if by_bands else "rgb", "carried_by": "memory" if memory else "in place", "dates": len(found),
        "iou_per_date": round(float(np.mean(iou_found)), 4), "iou_joined": round(float(np.mean(iou_joined)), 4),
        "ponds": len(held), "one_id": round(float(np.mean(one)), 3),
        "of_covered": f"{int(one[covered].sum())} of {sum(covered)}", "never_found": int(sum(not any(n) for n in held)),
        "switches": round(float(np.mean([a != b for a, b in pairs])), 4), "objects": len(made.objects),
        "carried": made.summary.carried,
    }  # fmt: skip


def _burn(geometries: gpd.GeoSeries, values: Any, grid: Any) -> np.ndarray:
    if not len(geometries):
        return np.zeros(grid.shape, np.int32)
    numbers = [values] * len(geometries) if isinstance(values, int) else list(values)
    return rasterize(list(zip(geometries, numbers, strict=True)), grid.shape, transform=grid.affine, dtype=np.int32)


def _iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / max(1, (one | other).sum()))


def _holder(values: np.ndarray) -> int:
    """The id that covers at least half of a pond's ground, 0 for none."""
    counts = np.bincount(values)
    counts[0] = 0
    best = int(counts.argmax())
    return best if counts[best] >= HALF * len(values) else 0


def main(data: Path, folder: Path) -> None:
    """Measure and write."""
    made: dict[str, Any] = {"ponds": [], "towns": []}
    rendered: dict[int, Sequence_] = {}
    # the memory is measured on two towns, beside the same two without
    for seeds, memory in ((SEEDS, False), (FRESH, False), (SEEDS[:2], False), (SEEDS[:2], True)):
        which = {"towns": ", ".join(map(str, seeds)), "carried_by": "memory" if memory else "in place"}
        made["towns"].append(which | rates(towns(seeds, folder, memory, rendered)))
        print(made["towns"][-1], flush=True)
    for memory, by_bands in ((False, True), (False, False), (True, False)):
        made["ponds"].append(ponds(data, memory, by_bands, folder / "ponds"))
        print(made["ponds"][-1], flush=True)
        write(made)


def write(made: dict[str, Any]) -> None:
    """Write both files."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "track.json").write_text(json.dumps(made, indent=1) + "\n")
    text = ["# Tracking", "", "By `python -m benchmarks.track`; what the figures are stands in its first lines.", ""]
    for name, rows in made.items():
        heads = list(rows[0])
        text += [f"## {name}", "", f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
        text += [f"| {' | '.join(str(row[head]) for head in heads)} |" for row in rows] + [""]
    (RESULTS / "track.md").write_text("\n".join(text))


@contextmanager
def arguments(**positional: Any) -> Iterator[tuple[argparse.Namespace, Path]]:
    """Arguments of the command line, and the folder of its runs: of --run, or one that goes away."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--run", type=Path)
    for name, how in positional.items():
        parser.add_argument(name, **how)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as own:
        folder = asked.run or Path(own)
        folder.mkdir(parents=True, exist_ok=True)
        yield asked, folder


if __name__ == "__main__":
    with arguments(data={"nargs": "?", "type": Path, "default": Path("../shared/data")}) as (asked, place):
        main(asked.data, place)
