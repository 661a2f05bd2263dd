"""What a few labels of one's own are worth: F1 on the rest of a place by the number of labelled buildings.

python -m benchmarks.finetune_curve PLACE [DATA]     measures zanzibar or banepa: benchmarks/results/finetune-PLACE.json
python -m benchmarks.finetune_curve                  docs/finetune.md and docs/finetune.png of what was measured

The classifier to go on from has not seen the place: runs/buildings-not-PLACE/model, which `hybridseg train
benchmarks/recipes/buildings-not-PLACE.yaml` makes. Labelled is one square of ground, as a person would do it. F1 is of
coarse outlines, on all ground but the largest square, with the theme's settings as they are, so that nothing but the
head differs.
"""

from __future__ import annotations

import functools
import json
import operator
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
import rasterio.merge
import shapely
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hybridseg.finetuning.run import finetune
from hybridseg.metrics.summary import summarise
from hybridseg.run.extract import extract
from hybridseg.search import write_theme
from hybridseg.theme import load_theme

COUNTS = (10, 30, 100)
SEEDS = (0, 1, 2)
HEADS = {"linear": {"head": "linear"}, "conv": {"head": "conv", "steps": 200}}
COLORS = {"linear": "#2a6f97", "conv": "#d1495b"}
AWAY_M = 20.0
PLACES = ("zanzibar", "banepa")
DOCS = Path(__file__).parent.parent / "docs"
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Place:
    """Where it is measured. Lengths are map units, close to metres divided by cos(latitude).

    scenes: the first is where the labels lie; truth: in their CRS; theme: with the classifier that has not seen it.
    """

    scenes: Sequence[Path]
    truth: gpd.GeoDataFrame
    theme: Path
    work: Path

    def square(self, count: int, seed: int) -> shapely.Polygon:
        """The least square around a building drawn at random that meets so many, as far as the scene reaches."""
        rng = np.random.default_rng(seed)
        whole = _ground(self.scenes[0])
        inner = self.truth[self.truth.within(whole.buffer(-0.2 * np.sqrt(whole.area)))]
        middle = inner.geometry.iloc[rng.integers(len(inner))].centroid
        for half in np.arange(5.0, 600.0, 1.0):
            square = shapely.box(middle.x - half, middle.y - half, middle.x + half, middle.y + half) & whole
            if self.truth.intersects(square).sum() >= count:
                return square
        raise ValueError(f"no square meets {count} buildings")

    def score(self, model: Path | None, away: shapely.Geometry) -> float:
        """F1 on all ground but `away` of a model folder, or of the theme's own classifier."""
        how = {"theme": str(self.theme)} if model is None else {"model": str(model)}
        parts = []
        for scene in self.scenes:
            found = extract(str(scene), None, refiner="none", **how).features
            parts.append(summarise(found, self.truth, shapely.difference(_ground(scene), away), 0.3))
        return functools.reduce(operator.add, parts).objects.f1

    def run(self, count: int, head: str, seed: int) -> Path:
        """A model folder from so many labels."""
        square = self.square(count, seed)
        labels, within = self.work / "labels.gpkg", self.work / "within.gpkg"
        self.truth[self.truth.intersects(square)].to_file(labels)
        gpd.GeoDataFrame(geometry=[square], crs=self.truth.crs).to_file(within)
        return finetune(
            scene=str(self.scenes[0]), labels=str(labels), theme=str(self.theme), complete_within=str(within),
            out=self.work / f"{head}-{count}-{seed}", search_settings=False, refiner="none", quiet=True, **HEADS[head],
        ).folder  # fmt: skip


def measure(name: str, data: Path) -> None:
    """One place."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        place = {"zanzibar": _zanzibar, "banepa": _banepa}[name](data, Path(folder))
        for seed in SEEDS:
            largest = place.square(max(COUNTS), seed).buffer(AWAY_M)
            rows.append({"labels": 0, "head": "untouched", "seed": seed, "f1": place.score(None, largest)})
            print(rows[-1], flush=True)
            for count in COUNTS:
                for head in HEADS:
                    f1 = place.score(place.run(count, head, seed), largest)
                    rows.append({"labels": count, "head": head, "seed": seed, "f1": f1})
                    print(rows[-1], flush=True)
            (RESULTS / f"finetune-{name}.json").write_text(json.dumps(rows, indent=1) + "\n")


def _zanzibar(data: Path, work: Path) -> Place:
    """The two blocks of tiles as a scene each; labels in the northern one."""
    truth = gpd.read_file(data / "zanzibar" / "labels" / "osm_buildings.geojson").to_crs("EPSG:3857")[["geometry"]]
    scenes = []
    for rows in ("54192", "54199"):
        tiles = sorted((data / "zanzibar" / "images").glob(f"*-{rows}?-20.jpg"))
        pixels, transform = rasterio.merge.merge(tiles)
        shape = {"count": 3, "height": pixels.shape[1], "width": pixels.shape[2], "dtype": "uint8"}
        with rasterio.open(work / f"{rows}.tif", "w", driver="GTiff", crs=truth.crs, transform=transform, **shape) as f:
            f.write(pixels)
        scenes.append(work / f"{rows}.tif")
    return Place(scenes, truth, _theme("zanzibar", work), work)


def _banepa(data: Path, work: Path) -> Place:
    truth = gpd.read_file(data / "scenes" / "banepa_buildings.geojson").to_crs("EPSG:3857")[["geometry"]]
    return Place([data / "scenes" / "banepa_z19.tif"], truth, _theme("banepa", work), work)


def _theme(place: str, work: Path) -> Path:
    classifier = Path(f"runs/buildings-not-{place}/model").resolve()
    own = load_theme("buildings").model_copy(update={"classifier": str(classifier)})
    return write_theme(own, work / "theme.yaml", "buildings with a classifier that has not seen the place")


def _ground(scene: Path) -> shapely.Polygon:
    with rasterio.open(scene) as file:
        return shapely.box(*file.bounds)


def _mean(rows: list[dict], count: int, head: str) -> float:
    return float(np.mean([r["f1"] for r in rows if (r["labels"], r["head"]) == (count, head)]))


def show(measured: dict[str, list[dict]]) -> None:
    """The page and its picture."""
    figure = Figure(figsize=(4.2 * len(measured), 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    every = figure.subplots(1, len(measured), squeeze=False, sharey=True)[0]
    for axes, (name, rows) in zip(every, measured.items(), strict=True):
        axes.axhline(_mean(rows, 0, "untouched"), color="#616e7c", linestyle="--", label="untouched")
        for head, color in COLORS.items():
            axes.plot(COUNTS, [_mean(rows, n, head) for n in COUNTS], "o-", color=color, label=head)
            own = [r for r in rows if r["head"] == head]
            axes.plot([r["labels"] for r in own], [r["f1"] for r in own], ".", color=color, alpha=0.4)
        axes.set(xscale="log", xticks=COUNTS, xticklabels=COUNTS, xlabel="labelled buildings", title=name.capitalize())
        axes.minorticks_off()
    every[0].set_ylabel("F1 on the rest of the place")
    every[0].legend(frameon=False)
    figure.savefig(DOCS / "finetune.png", dpi=150)
    (DOCS / "finetune.md").write_text("\n".join(_page(measured)) + "\n")


def _page(measured: dict[str, list[dict]]) -> list[str]:
    heads = [f"{name.capitalize()}, {head}" for name in measured for head in HEADS]
    lines = [
        "# What your own labels are worth", "",
        "```sh",
        "hybridseg finetune --scene scene.tif --labels labels.gpkg --theme buildings --out mine",
        "hybridseg extract scene.tif map.gpkg --model mine",
        "```", "",
        "The README says which labels and backbones can be used; `hybridseg finetune --help` has every setting.", "",
        "F1 (IoU 0.5) of coarse outlines on the rest of a place, after `hybridseg finetune` on one square of ground",
        "with so many buildings; the classifier that it goes on from had not seen the place. Linear: scikit-learn;",
        f"conv: Lightning, {HEADS['conv']['steps']} steps at most, backbone frozen. Lines are the mean of",
        f"{min(len({r['seed'] for r in rows}) for rows in measured.values())} squares, small dots each of them.",
        "", "![F1 by labelled buildings](finetune.png)", "",
        f"| labelled buildings | {' | '.join(heads)} |", f"|---|{'---|' * len(heads)}",
    ]  # fmt: skip
    for count in (0, *COUNTS):
        of = [_mean(rows, count, head if count else "untouched") for rows in measured.values() for head in HEADS]
        lines.append(f"| {count or '0 (untouched)'} | {' | '.join(f'{f1:.3f}' for f1 in of)} |")
    makers = " and ".join(f"`python -m benchmarks.finetune_curve {name}`" for name in measured)
    return [*lines, "", f"Measured by {makers}; the page is made by `python -m benchmarks.finetune_curve`."]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(sys.argv[1], Path(sys.argv[2] if len(sys.argv) > 2 else "../shared/data"))
    else:
        files = {name: RESULTS / f"finetune-{name}.json" for name in PLACES}
        if not (there := {name: json.loads(path.read_text()) for name, path in files.items() if path.exists()}):
            sys.exit(f"nothing measured yet: python -m benchmarks.finetune_curve {PLACES[0]}")
        show(there)
