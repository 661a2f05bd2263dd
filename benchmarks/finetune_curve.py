"""What a few labels of one's own are worth: F1 on the rest of a place by the number of labelled buildings.

python -m benchmarks.finetune_curve [DATA [CLASSIFIER]]      writes docs/finetune.md, docs/finetune.png and
                                                             benchmarks/results/finetune.json

The place is Banepa. CLASSIFIER must not have seen it: runs/buildings-fold-a/model by default, which
`hybridseg train configs/recipes/buildings-fold-a.yaml` makes from Zanzibar and rendered towns. Labelled is one square
of ground, as a person would do it; F1 is of coarse outlines, on all ground but the largest square, with the theme's
settings as they are, so that nothing but the head differs.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
import shapely
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hybridseg.evaluate.quick import quick_scores
from hybridseg.finetune.run import finetune
from hybridseg.run.extract import extract
from hybridseg.theme import load_theme
from hybridseg.tune.run import write_theme

COUNTS = (10, 30, 100)
SEEDS = (0, 1)
HEADS = ("linear", "conv")
STEPS = 60
AWAY_M = 20.0
DOCS = Path(__file__).parent.parent / "docs"
RESULTS = Path(__file__).parent / "results" / "finetune.json"


@dataclass(frozen=True)
class Setting:
    """The place, and where things are put. Lengths are map units, close to metres divided by cos(latitude)."""

    scene: Path
    truth: gpd.GeoDataFrame
    whole: shapely.Polygon
    theme: Path
    work: Path

    def square(self, count: int, seed: int) -> shapely.Polygon:
        """The least square around a building drawn at random that meets so many."""
        rng = np.random.default_rng(seed)
        inner = self.truth[self.truth.within(self.whole.buffer(-0.2 * np.sqrt(self.whole.area)))]
        middle = inner.geometry.iloc[rng.integers(len(inner))].centroid
        for half in np.arange(5.0, 300.0, 1.0):
            square = shapely.box(middle.x - half, middle.y - half, middle.x + half, middle.y + half)
            if self.truth.intersects(square).sum() >= count:
                return square
        raise ValueError(f"no square meets {count} buildings")

    def score(self, model: Path | None, area: shapely.Geometry) -> float:
        """F1 on `area` of a model folder, or of the theme's own classifier."""
        how = {"theme": str(self.theme)} if model is None else {"model": str(model)}
        found = extract(str(self.scene), None, refiner="none", **how)
        return quick_scores(found, self.truth, area, 0.3)["f1"]

    def run(self, count: int, head: str, seed: int) -> Path:
        """A model folder from so many labels."""
        square = self.square(count, seed)
        labels, within = self.work / "labels.gpkg", self.work / "within.gpkg"
        self.truth[self.truth.intersects(square)].to_file(labels)
        gpd.GeoDataFrame(geometry=[square], crs=self.truth.crs).to_file(within)
        return finetune(
            scene=str(self.scene), labels=str(labels), theme=str(self.theme), complete_within=str(within), head=head,
            out=self.work / f"{head}-{count}-{seed}", steps=STEPS, search_settings=False, refiner="none", quiet=True,
        )  # fmt: skip


def main(data: Path, classifier: Path) -> None:
    """Measure, draw, write."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        setting = _setting(data, classifier, work)
        rows = []
        for seed in SEEDS:
            largest = setting.square(max(COUNTS), seed).buffer(AWAY_M)
            rest = shapely.difference(setting.whole, largest)
            rows.append({"labels": 0, "head": "untouched", "seed": seed, "f1": setting.score(None, rest)})
            print(rows[-1], flush=True)
            for count in COUNTS:
                for head in HEADS:
                    f1 = setting.score(setting.run(count, head, seed), rest)
                    rows.append({"labels": count, "head": head, "seed": seed, "f1": f1})
                    print(rows[-1], flush=True)
            RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
            _draw(rows)
            _write(rows)


def _setting(data: Path, classifier: Path, work: Path) -> Setting:
    scene = data / "scenes" / "banepa_z19.tif"
    with rasterio.open(scene) as file:
        crs, bounds = file.crs, file.bounds
    truth = gpd.read_file(data / "scenes" / "banepa_buildings.geojson").to_crs(crs)[["geometry"]]
    own = load_theme("buildings").model_copy(update={"classifier": str(classifier.resolve())})
    theme = write_theme(own, work / "theme.yaml", "buildings with a classifier that has not seen the place")
    return Setting(scene, truth, shapely.box(*bounds), theme, work)


def _means(rows: list[dict], head: str) -> list[float]:
    return [float(np.mean([r["f1"] for r in rows if (r["labels"], r["head"]) == (n, head)])) for n in COUNTS]


def _untouched(rows: list[dict]) -> float:
    return float(np.mean([r["f1"] for r in rows if r["head"] == "untouched"]))


def _draw(rows: list[dict]) -> None:
    figure = Figure(figsize=(5.2, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.axhline(_untouched(rows), color="#616e7c", linestyle="--", label="untouched")
    for head, color in zip(HEADS, ("#2a6f97", "#d1495b"), strict=True):
        axes.plot(COUNTS, _means(rows, head), "o-", color=color, label=head)
        own = [r for r in rows if r["head"] == head]
        axes.plot([r["labels"] for r in own], [r["f1"] for r in own], ".", color=color, alpha=0.4)
    axes.set(xscale="log", xticks=COUNTS, xticklabels=COUNTS, xlabel="labelled buildings", ylabel="F1 on the rest")
    axes.minorticks_off()
    axes.legend(frameon=False)
    figure.savefig(DOCS / "finetune.png", dpi=150)


def _write(rows: list[dict]) -> None:
    lines = [
        "# What your own labels are worth", "",
        "Made by `python -m benchmarks.finetune_curve`: F1 (IoU 0.5) of coarse outlines on the rest of Banepa, after",
        "`hybridseg finetune` on one square of ground with so many buildings. The classifier had not seen Banepa.",
        f"Linear: scikit-learn; conv: {STEPS} steps at most, backbone frozen. Lines are the mean of",
        f"{len({r['seed'] for r in rows})} squares, small dots each of them.",
        "", "![F1 by labelled buildings](finetune.png)", "", "| labelled buildings | linear | conv |", "|---|---|---|",
        f"| 0 (untouched) | {_untouched(rows):.3f} | {_untouched(rows):.3f} |",
        *(f"| {n} | {a:.3f} | {b:.3f} |" for n, a, b in zip(COUNTS, *(_means(rows, h) for h in HEADS), strict=True)),
    ]  # fmt: skip
    (DOCS / "finetune.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    given = [*sys.argv[1:], *["../shared/data", "runs/buildings-fold-a/model"][len(sys.argv) - 1 :]]
    main(Path(given[0]), Path(given[1]))
