"""What `review --layer` says of a layer of known faults: `python -m benchmarks.layer [--seeds 11 12] [--show]`.

Each town is rendered; of its buildings a fifth is shifted by 2 to 5 m, a tenth is left out of the layer, and a tenth as
many are invented on free ground. `--show` prints each untouched building that is not kept, with what decided it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from hybridseg.reviewing.desk import Desk
from townscape import render_town

SHOULD = {"same": "kept", "shifted": "moved", "invented": "removed", "lacking": "added"}


def faulty(truth: gpd.GeoDataFrame, seed: int) -> gpd.GeoDataFrame:
    """Return outlines as a layer would have them, with `what` and `truth`; those that are lacking, too."""
    rng = np.random.default_rng(seed)
    what = np.full(len(truth), "same", object)
    chosen = rng.permutation(len(truth))
    moved, lost = len(truth) // 5, len(truth) // 10
    what[chosen[:moved]], what[chosen[moved : moved + lost]] = "shifted", "lacking"
    drawn = truth.geometry.to_numpy().copy()
    for row in chosen[:moved]:
        way, far = rng.uniform(0, 2 * np.pi), rng.uniform(2, 5)
        drawn[row] = shapely.affinity.translate(drawn[row], far * np.cos(way), far * np.sin(way))
    taken, (x0, y0, x1, y1) = truth.union_all().buffer(2), truth.total_bounds
    boxes: list[shapely.Geometry] = []
    for _ in range(5000):  # a dense town may have too little free ground
        wide, high = rng.uniform(6, 15, 2)
        x, y = rng.uniform(x0, x1 - wide), rng.uniform(y0, y1 - high)
        if not (box := shapely.box(x, y, x + wide, y + high)).intersects(taken):
            boxes.append(box)
            taken = taken.union(box)
        if len(boxes) == lost:
            break
    known = gpd.GeoDataFrame({"what": what, "truth": truth.geometry.to_numpy()}, geometry=drawn, crs=truth.crs)
    invented = gpd.GeoDataFrame({"what": ["invented"] * len(boxes)}, geometry=boxes, crs=truth.crs)
    known = gpd.GeoDataFrame(pd.concat([known, invented], ignore_index=True), crs=truth.crs)
    known["id"] = [f"w{number}" for number in range(len(known))]
    return known.set_index("id")


def told(seed: int, side_px: int, show: bool = False) -> list[tuple[str, str]]:
    """What is true, and what is said, of each object and proposal of a town; '' where there is none."""
    with tempfile.TemporaryDirectory() as folder:
        scene, truth = render_town(side_px, 0.3, seed).write(Path(folder))
        known = faulty(gpd.read_file(truth), seed)
        layer = Path(folder) / "layer.gpkg"
        known[known["what"] != "lacking"].reset_index()[["id", "geometry"]].to_file(layer)
        with Desk.open(scene, layer=layer, theme="buildings", device="cpu") as desk:
            pairs, proposed = list[tuple[str, str]](), []
            figures = {one.key: one for one in desk.edits.all()}
            for key, finding in desk.findings.items():
                if finding.said == "added":
                    proposed.append(figures[key].geometry)
                    continue
                one, what = desk.before[key], str(known.loc[desk.before[key].id, "what"])
                pairs.append((what, finding.said))
                if show and SHOULD[what] != finding.said:
                    now = figures[key]
                    print(
                        what, finding.said, one.id, f"{one.geometry.area:.0f} m2", f"extent {now.score:.2f}",
                        f"agreement {now.agreement:.2f} iou_pred {now.iou_pred:.2f} stability {now.stability:.2f}",
                        f"shift {finding.shift_m:.1f}", [round(v) for v in one.geometry.centroid.coords[0]],
                    )  # fmt: skip
    lacking = known.loc[known["what"] == "lacking", "truth"].to_numpy()
    hit = [[_iou(one, truth) >= 0.5 for truth in lacking] for one in proposed]
    found = np.array(hit, bool).reshape(len(proposed), len(lacking))
    pairs += [("lacking" if row.any() else "", "added") for row in found]
    return pairs + [("lacking", "") for seen in found.any(0) if not seen]


def summary(pairs: list[tuple[str, str]]) -> dict[str, dict[str, float | int]]:
    """Precision and recall of each kind, and how many there are."""
    found = {}
    for what, said in SHOULD.items():
        right, those, of_it = (
            pairs.count((what, said)),
            [p for p in pairs if p[1] == said],
            [p for p in pairs if p[0] == what],
        )
        precision, recall = right / max(1, len(those)), right / max(1, len(of_it))
        found[said] = {
            "true": len(of_it),
            "said": len(those),
            "precision": round(precision, 3),
            "recall": round(recall, 3),
        }
    return found


def _iou(one: shapely.Geometry, two: shapely.Geometry) -> float:
    common = one.intersection(two).area
    return common / (one.area + two.area - common)


def main() -> None:
    """Measure, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12])
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--show", action="store_true")
    asked = parser.parse_args()
    together, begun = list[tuple[str, str]](), time.process_time()
    for seed in asked.seeds:
        pairs = told(seed, asked.side, asked.show)
        together += pairs
        print(json.dumps({"town": seed, **summary(pairs)}))
    counts = {f"{what or 'nothing'} as {said or 'nothing'}": n for (what, said), n in sorted(Counter(together).items())}
    cpu_s = round(time.process_time() - begun, 1)
    print(json.dumps({"towns": asked.seeds, **summary(together), "counts": counts, "cpu_s": cpu_s}))


if __name__ == "__main__":
    main()
