"""What *Find what is missing* proposes, on rendered towns: `python -m benchmarks.proposals [--seeds 11 12]`.

Of what `extract` finds in a town, the eight largest objects are cut in two, eight pairs of near neighbours are made
one, and eight others are left out. A proposal is right where accepting it leaves more of the true buildings shown (IoU
0.5) or as many with fewer objects; recall is the share of the faults made for which a right one is there.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely

from hybridseg.metrics.objects import match
from hybridseg.reviewing.desk import Desk
from hybridseg.run.extract import extract
from townscape import render_town

FAULTS = 8


def faulty(found: gpd.GeoDataFrame) -> tuple[gpd.GeoDataFrame, list[frozenset[str]], list[frozenset[str]]]:
    """Return a map with faults, the ids of the halves of each object cut, and of what is several."""
    outline = dict(zip(found["id"], found.geometry, strict=True))
    cut, joined = list[frozenset[str]](), list[frozenset[str]]()
    names = sorted(outline, key=lambda name: -outline[name].area)
    for name in names[:FAULTS]:
        whole = outline.pop(name)
        left, bottom, right, top = whole.bounds
        middle = (left + right) / 2
        for side, x0, x1 in (("w", left, middle), ("e", middle, right)):
            parts = shapely.get_parts(whole.intersection(shapely.box(x0, bottom, x1, top)))
            outline[f"{name}-{side}"] = max(parts, key=shapely.area)
        cut.append(frozenset({f"{name}-w", f"{name}-e"}))
    others = names[FAULTS:]
    shapes = np.array([outline[name] for name in others])
    apart = shapely.distance(shapes[:, None], shapes[None])
    apart[np.tril_indices(len(shapes))] = np.inf
    for place in np.argsort(apart, axis=None):
        one, other = (others[k] for k in np.unravel_index(place, apart.shape))
        if one in outline and other in outline and len(joined) < FAULTS:
            outline[f"{one}-pair"] = shapely.union(outline.pop(one), outline.pop(other)).convex_hull
            joined.append(frozenset({f"{one}-pair"}))
    for name in [name for name in others if name in outline][::3][:FAULTS]:
        del outline[name]
    rows = found.set_index("id").loc[
        [name.removesuffix("-pair").removesuffix("-w").removesuffix("-e") for name in outline]
    ]
    return (
        rows.reset_index(drop=True).assign(id=list(outline)).set_geometry(list(outline.values()), crs=found.crs),
        cut,
        joined,
    )


def told(seed: int, side_px: int) -> dict[str, np.ndarray]:
    """Of each kind of proposal: right ones, all, faults for which a right one is there, all faults."""
    with tempfile.TemporaryDirectory() as folder:
        scene, path = render_town(side_px, 0.3, seed).write(Path(folder))
        truth = gpd.read_file(path).geometry.to_numpy()
        made, cut, joined = faulty(extract(str(scene), theme="buildings", device="cpu").features)
        made.to_file(Path(folder) / "map.gpkg")
        with Desk.open(scene, Path(folder) / "map.gpkg", theme="buildings", device="cpu") as desk:
            desk.teaching.agree(desk.teaching.propose(), "benchmark", "propose")
            groups, new = defaultdict[frozenset[str], list[shapely.Geometry]](list), list[shapely.Geometry]()
            shown = {one.id: one.geometry for one in desk.edits.all() if one.present}
            for one in desk.edits.all():
                if one.verdict == "proposed":
                    groups[frozenset(one.parents)].append(one.geometry) if one.parents else new.append(one.geometry)
    counts = {kind: np.zeros(4, int) for kind in ("unions", "parts", "missing")}

    def better(parents: frozenset[str], fresh: list[shapely.Geometry]) -> bool:
        # beside them nothing of the map changes
        before = len(match(np.array([shown[name] for name in parents], object), truth).pred) if parents else 0
        return (len(match(np.array(fresh, object), truth).pred), -len(fresh)) > (
            before,
            -len(parents) if parents else 0,
        )

    right = {parents for parents, fresh in groups.items() if better(parents, fresh)}
    for kind, faults, several in (("unions", cut, True), ("parts", joined, False)):
        mine = [parents for parents in groups if (len(parents) > 1) == several]
        counts[kind] += sum(parents in right for parents in mine), len(mine), len(right & set(faults)), len(faults)
    lacking = np.setdiff1d(np.arange(len(truth)), match(np.array(list(shown.values()), object), truth).truth)
    hit = len(match(np.array(new, object), truth[lacking]).pred)
    counts["missing"] += hit, len(new), hit, len(lacking)
    return counts


def main() -> None:
    """Measure, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12])
    parser.add_argument("--side", type=int, default=1024)
    asked = parser.parse_args()
    together, begun = defaultdict[str, np.ndarray](lambda: np.zeros(4, int)), time.process_time()
    for seed in asked.seeds:
        for kind, counts in told(seed, asked.side).items():
            together[kind] += counts
    names = ("right", "proposed", "found", "faults")
    for kind, counts in together.items():
        precision, recall = counts[0] / max(1, counts[1]), counts[2] / max(1, counts[3])
        figures = {"precision": round(float(precision), 3), "recall": round(float(recall), 3)}
        print(json.dumps({"kind": kind, **dict(zip(names, counts.tolist(), strict=True)), **figures}))
    print(json.dumps({"towns": asked.seeds, "cpu_s": round(time.process_time() - begun, 1)}))


if __name__ == "__main__":
    main()
