"""What learns, a linear or a convolutional head, and what it is shown."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hybridseg import nn
from hybridseg.errors import BandsMissing, ThemeError, WeightsError
from hybridseg.finetuning.features import sample_features
from hybridseg.labels.labelled import LabelledGrid
from hybridseg.labels.samples import FocusedSamples, pool, stream_seed, targets_of, validation_batches
from hybridseg.labels.split import Split
from hybridseg.read.bands import check_bands
from hybridseg.read.scene import Scene
from hybridseg.read.stretch import check_scaling
from hybridseg.theme import Theme


def shown_to(
    backbone: str, start: Mapping[str, Any] | None, sources: Sequence[Scene], numbers: Sequence[int] | None
) -> list[Scene]:
    """Each scene as the backbone wants to see it: as it is, or its raw bands. Nothing is fetched for it.

    Args:
        backbone: by name.
        start: classifier to go on from, if any: it looks at red, green and blue.
        sources: scenes.
        numbers: of the backbone's bands in the scenes, in its order; default: all, where there are so many.

    Raises:
        BandsMissing: other bands or another scaling came than it wants.
        ThemeError: numbers for a backbone that looks at red, green and blue.
    """
    backbones = nn.backbones
    wants = backbones.base.InputSpec() if start is not None else backbones.build_backbone(backbone).inputs
    if not wants.rgb:
        who = f"backbone {backbone} wants {wants}"
        if wants.by_name and numbers is None:
            return [source.raw(check_bands(source, wants.bands, f"backbone {backbone}")) for source in sources]
        return [check_scaling(_raw(s, len(wants.bands), numbers, who), wants.scaling, who) for s in sources]
    if numbers is not None:
        raise ThemeError(
            f"backbone {backbone} looks at 8-bit red, green and blue, which --bands names; leave out --backbone-bands"
        )
    return list(sources)


def _raw(source: Scene, count: int, numbers: Sequence[int] | None, who: str) -> Scene:
    chosen = source.data_bands if numbers is None else tuple(numbers)
    if len(chosen) == count:
        return source.raw(chosen)
    came = f"{source.name} has {len(chosen)}" if numbers is None else f"--backbone-bands gives {len(chosen)}"
    raise BandsMissing(f"{who}; {came}: give all {count}, by their numbers and in that order, with --backbone-bands")


def card_of(trunk: Any, seen: Scene) -> dict[str, Any]:
    """What the model's card says of the bands, so that `extract` shows it the same."""
    wants = trunk.inputs
    if wants.rgb:
        return {"bands": "red, green, blue", "scaling": "uint8, one stretch a scene (2 to 98 %); 8-bit RGB as it is"}
    if wants.by_name:
        return {"bands": ", ".join(wants.bands), "scaling": wants.scaling}
    return {"bands": ", ".join(wants.bands), "scaling": wants.scaling, "source_bands": list(seen.bands)}


CROP_PX = 256
"""Side of training crops, where the backbone takes images of any size."""
PIXELS = 4000
"""Pixels of each class, and as many beside it, that the linear head learns from."""


def find_start(themes: Sequence[Theme], backbone: str, sources: Sequence[Scene]) -> dict[str, Any] | None:
    """Card of the classifier to go on from, with its folder: the theme's own, where the backbone is its."""
    if backbone != "lite0":
        return None
    try:
        folder = nn.cards.model_folder(themes[0].classifier)
    except WeightsError:
        return None
    card = nn.cards.read_card(folder, needs=("classes", "gsd_m", "gsd_range_m"))
    plain = card.get("head", "pyramid") == "pyramid" and card.get("backbone", "lite0") == "lite0"
    # far coarser scenes show it nothing that it knows at its own GSD
    near = min(s.gsd_m for s in sources) <= 1.1 * (themes[0].max_gsd_m or card["gsd_range_m"][1])
    return {**card, "folder": folder} if plain and near else None


def load_trunk(backbone: str, head: str, start: Mapping[str, Any] | None, device: str) -> Any:
    """The backbone with its weights, on its device."""
    if start is not None and head == "linear":
        trunk: Any = nn.classify.heads.pyramid_of(_segmenter(start, device))
    elif start is not None:
        trunk = nn.backbones.build_backbone(backbone)  # the classifier to go on from brings its own weights
    else:
        trunk = nn.backbones.build_backbone(backbone, pretrained=True)
    return trunk.eval().to(nn.device.pick_device(device))


def linear_name(backbone: str, start: Mapping[str, Any] | None) -> str:
    """The backbone that a linear head looks at."""
    return backbone if start is None else "lite0-pyramid"


def fit_linear_head(
    trunk: Any,
    start: Mapping[str, Any] | None,
    grids: Sequence[LabelledGrid],
    splits: Sequence[Split],
    names: Sequence[str],
    seed: int,
    device: str,
) -> Any:
    """A linear head on frozen features of the training ground, going on from the start's own last layer."""
    rng = np.random.default_rng(seed)
    most = max(200, PIXELS // len(grids))

    def look(ground_of: Callable[[Split], np.ndarray]) -> list[list[Any]]:
        """Samples of each class, of each scene."""
        parts = [
            sample_features(trunk, g, targets_of(g.image, names, ground_of(s)), most, rng)
            for g, s in zip(grids, splits, strict=True)
        ]
        return [list(of_class) for of_class in zip(*parts, strict=True)]

    net = nn.classify.heads.LinearSegmenter(len(names), trunk)
    linear = nn.training.linear
    features = net.head.in_channels
    known = {} if start is None else linear.start_rows(_segmenter(start, device), start["classes"], features)
    linear.fit_linear(net, look(lambda s: s.train), look(lambda s: s.validation), [known.get(name) for name in names])
    return net


def _segmenter(start: Mapping[str, Any], device: str) -> Any:
    """The network to go on from, as it is open in this process; not to be changed."""
    return nn.classify.classifier.load_classifier(start["folder"], device).net


@dataclass(frozen=True)
class Training:
    """The convolutional head by Lightning."""

    names: Sequence[str]
    steps: int
    patience: int
    batch: int
    rate: float
    free: int
    seed: int
    device: str
    quiet: bool

    def __call__(
        self,
        trunk: Any,
        start: Mapping[str, Any] | None,
        grids: Sequence[LabelledGrid],
        splits: Sequence[Split],
        run: Path,
    ) -> tuple[Any, int]:
        """The network at its best on the validation blocks, and the step reached; draws `curves.png` into `run`."""
        folder = None if start is None else start["folder"]
        net = nn.classify.heads.start_segmenter(trunk, self.names, folder, self.seed)
        learner = nn.training.learners.watched(net, self.steps, self.rate, self.free, warm_start=start is not None)
        watch = validation_batches([g.image for g in grids], splits, self.names, trunk.image_px or CROP_PX, self.batch)
        batches = self._batches(grids, splits, nn.training.fit.step_reached(run), trunk.image_px or CROP_PX)
        accelerator = self.device.partition(":")[0].replace("cuda", "gpu")
        steps = nn.training.fit.fit(
            learner, batches, run, every=max(1, min(50, self.steps // 4)),
            quiet=self.quiet, watch=watch, patience=self.patience, accelerator=accelerator,
        )  # fmt: skip
        draw_curves(run, run / "curves.png")
        return learner.net, steps

    def _batches(self, grids: Sequence[LabelledGrid], splits: Sequence[Split], step: int, side: int) -> Any:
        pools = [
            pool([replace(g.image, valid=s.train)], g.image.gsd_m, zoom=(0.75, 1.33))
            for g, s in zip(grids, splits, strict=True)
        ]
        samples = FocusedSamples(pools, self.names, side)
        return lambda worker: samples.batches(self.batch, stream_seed(self.seed, step, worker))


def draw_curves(run: Path, out: Path) -> Path:
    """Loss of training and validation against steps, from all the times that a run was started.

    Args:
        run: folder of the run, with `curves/version_<k>/metrics.csv`.
        out: PNG to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")  # not pyplot: it keeps state and wants a display
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlabel="step", ylabel="loss")
    for column, label in (("loss", "training"), ("val_loss", "validation")):
        points = read_curve(run, column)
        axes.plot(
            *zip(*points, strict=True) if points else ([], []), marker="." if column == "val_loss" else "", label=label
        )
    axes.legend()
    figure.savefig(out, dpi=120)
    return out


def read_curve(run: Path, column: str) -> list[tuple[int, float]]:
    """(step, value) of one column, by step; where a run was taken up again, the later value of a step."""
    found: dict[int, float] = {}
    for path in sorted((run / "curves").glob("version_*/metrics.csv"), key=lambda p: int(p.parent.name[8:])):
        with path.open() as file:
            found |= {int(r["step"]): float(r[column]) for r in csv.DictReader(file) if r.get(column)}
    return sorted(found.items())
