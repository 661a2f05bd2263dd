"""The verb `train`: from a recipe to a model folder."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from hybridseg import nn
from hybridseg.errors import ThemeError
from hybridseg.files import replacing
from hybridseg.labels.images import LabelledImage
from hybridseg.labels.layers import burn
from hybridseg.labels.samples import Changes, ClassifierSamples, pool, stream_seed
from hybridseg.read.opening import open_scene
from hybridseg.run.survey import Survey
from hybridseg.theme import load_theme
from hybridseg.training.datasets import load_images
from hybridseg.training.recipe import DataSet, Stage, load_recipe
from hybridseg.training.refiner import RefinerSamples, boxed
from hybridseg.training.sequences import SequenceSamples
from hybridseg.types import Window
from hybridseg.what.classify import crop
from townscape import render_town


def train(recipe: Path, data: Path | None = None, runs: Path = Path("runs"), quiet: bool = False) -> Path:
    """Train a model by a recipe; goes on where an earlier run of the same recipe stopped.

    Args:
        recipe: YAML file, see configs/recipes.
        data: CSV that lists tiles and labels (dataset, image, label, split, place, gsd_m); not needed for towns alone.
        runs: folder for checkpoints and curves.
        quiet: no progress bar.

    Returns:
        the draft of the model folder, `runs/<recipe>/model`, to inspect and copy under models/.

    Raises:
        ThemeError: the recipe or a data set cannot be used.
        MissingExtra: Lightning is not installed.
    """
    plan, folder = load_recipe(recipe), runs / recipe.stem
    made: dict[str, Path] = {}
    for stage in plan.stages:
        at = folder / stage.name
        at.mkdir(parents=True, exist_ok=True)
        made[stage.name] = at / "model"
        if not made[stage.name].exists() or nn.training.fit.step_reached(at) < stage.last:
            _train_stage(stage, at, made, data, runs, quiet)
    last = made[plan.stages[-1].name]
    net, card = _network(plan.stages[-1]), nn.cards.read_card(last)
    nn.weights.load_weights(net, last)
    steps = {stage.name or plan.model: stage.last for stage in plan.stages}
    # a memory keeps the card of the model that it was trained for
    told = card | {"name": plan.model, "recipe": recipe.name, "stages": steps} | plan.card
    nn.weights.save_weights(net.eval(), folder / "model", told)
    return folder / "model"


def _train_stage(
    stage: Stage, folder: Path, made: Mapping[str, Path], data: Path | None, runs: Path, quiet: bool
) -> None:
    """Train a stage and leave its model in `folder/model`; `made` are the models of stages, by name."""
    batches = _batches(stage, made, data, runs, nn.training.fit.step_reached(folder))
    nn.device.seed_everything(stage.seed)
    learner, started = _learner(stage), dict[str, Any]()
    if stage.start:
        begin = made[stage.start] if stage.start in made else nn.cards.model_folder(stage.start)
        nn.weights.load_weights(learner.net, begin, stage.classes if stage.kind == "classifier" else None)
        started = nn.cards.read_card(begin)
    else:
        learner.trunk.load_imagenet()
    if stage.kind == "memory" and "memory" not in started:  # this is its first training
        images = next(batches(0))["images"]
        nn.training.learners.start_memory(learner.net, images.reshape(-1, *images.shape[2:]))
    first = {key: value.clone() for key, value in learner.net.state_dict().items()} if stage.keep < 1 else {}
    if stage.free is not None:
        nn.backbones.base.freeze(learner.trunk, stage.free)
    nn.training.fit.keep_slow_layers_in_fp32(learner.net)
    precision = nn.training.fit.precision()
    steps = nn.training.fit.fit(
        learner, batches, folder, stage.stop, quiet=quiet, precision=precision, workers=nn.training.fit.workers(),
        average=stage.average,
    )  # fmt: skip
    if first:
        nn.training.fit.add_weights(learner.net, first, stage.keep)
    trained = {"steps": steps, "trained": time.strftime("%Y-%m-%d")}
    known = {"classes": stage.classes, "gsd_m": stage.gsd_m} if stage.kind == "classifier" else {}
    card = {"name": stage.name, "kind": stage.kind, **known, **trained}
    if stage.kind == "memory":  # masks of single images have not changed
        card = {**started, "memory": trained}
    elif "memory" in started:  # it stays, and wants training again
        card["memory"] = started["memory"]
    nn.weights.save_weights(learner.net.eval(), folder / "model", card)


def _network(stage: Stage) -> Any:
    if stage.kind == "classifier":
        return nn.classify.heads.Segmenter(len(stage.classes))
    return nn.sam2.lite.build_sam2_lite(stage.size_px, stage.size_px)


def _learner(stage: Stage) -> nn.training.fit.Learner:
    """The network of a stage, with its loss."""
    kinds = {
        "classifier": nn.training.learners.ClassifierLearner,
        "refiner": nn.training.learners.RefinerLearner,
        "memory": nn.training.learners.MemoryLearner,
    }
    return kinds[stage.kind](_network(stage), stage.steps, stage.rate)


def _batches(
    stage: Stage, made: Mapping[str, Path], data: Path | None, runs: Path, step: int
) -> Callable[[int], Iterator[Any]]:
    """Streams of batches from a step on; see `nn.training.fit.Streams`."""
    samples = _samples(stage, made, data, runs)
    return lambda worker: samples.batches(stage.batch, stream_seed(stage.seed, step, worker))


def _samples(
    stage: Stage, made: Mapping[str, Path], data: Path | None, runs: Path
) -> ClassifierSamples | RefinerSamples | SequenceSamples:
    images = {name: _images(name, chosen, data, runs) for name, chosen in stage.sets.items()}
    if stage.kind == "classifier":
        pools = [
            pool(images[name], chosen.work_gsd_m or stage.gsd_m, chosen.share, chosen.zoom)
            for name, chosen in stage.sets.items()
        ]
        changes = Changes(stage.shade, stage.dye, stage.park, stage.paste, stage.mix, stage.degrade)
        return ClassifierSamples(pools, stage.classes, stage.size_px, changes=changes)
    ready = {
        name: [boxed(image, find_supports(image, stage.sets[name], made)) for image in found]
        for name, found in images.items()
    }
    shares = {name: chosen.share for name, chosen in stage.sets.items()}
    usable = {name: [one for one in found if len(one.boxes)] for name, found in ready.items()}
    samples = SequenceSamples if stage.kind == "memory" else RefinerSamples
    return samples(usable, shares, stage.size_px)


def _images(name: str, chosen: DataSet, data: Path | None, runs: Path) -> list[LabelledImage]:
    if chosen.towns:
        return [_town(seed, runs / "towns", chosen.without) for seed in range(1000, 1000 + chosen.towns)]
    return load_images(data or Path("tiles.csv"), chosen.dataset or name, chosen)


def _town(seed: int, kept: Path, without: Sequence[str]) -> LabelledImage:
    """Return a rendered town at a random GSD; seeds from 1000 on are for training, those below for demo and tests."""
    gsd_m = float(np.random.default_rng(seed).choice([0.15, 0.2, 0.25, 0.3]))
    path = kept / f"{seed}.npz"
    if not path.exists():
        town = render_town(768, gsd_m, seed)
        kept.mkdir(parents=True, exist_ok=True)
        with replacing(path) as beside:  # several trainings may render at once
            np.savez(beside, image=town.image.transpose(1, 2, 0), instances=town.instances())
    with np.load(path) as stored:
        image, instances = stored["image"], stored["instances"]
    objects = {"building": instances, **dict.fromkeys(without, np.zeros_like(instances))}
    return LabelledImage(image, objects, np.ones(instances.shape, bool), gsd_m, "town", f"town-{seed}")


_CRS = "EPSG:32631"
"""Images for training have no place: they are put at the origin of a CRS in metres, where every working grid begins."""


def find_supports(image: LabelledImage, chosen: DataSet, made: Mapping[str, Path]) -> np.ndarray | None:
    """Return (h, w) int32 supports on the grid of a classifier's heatmap; None where the entry names no classifier.

    The entry's `supports` is a classifier that was not trained on the image: a stage, or a model's name or folder.

    Args:
        image: whose objects are looked for.
        chosen: its entry in the recipe.
        made: folders of the models of stages, by name.

    Raises:
        ThemeError: the classifier does not know the class of the entry's theme.
    """
    if chosen.supports is None or not fnmatch(image.name, chosen.supports_on):
        return None
    theme = load_theme(chosen.supports_theme)
    theme = theme.model_copy(update={"classifier": str(made.get(chosen.supports, chosen.supports))})
    height, width = image.image.shape[:2]
    place = GeoBox((height, width), Affine(image.gsd_m, 0, 0, 0, -image.gsd_m, 0), _CRS)
    try:
        survey = Survey.open(open_scene(image.image.transpose(2, 0, 1), geobox=place), theme, "none")
    except ThemeError as error:
        raise ThemeError(f"supports of {image.dataset}: {error}; or give another supports_theme") from error
    grid, found = survey.heatmap().geobox, survey.prompts().rows
    across, down = (math.ceil(length * image.gsd_m / grid.affine.a) for length in (width, height))
    # those of one id are pieces of one region
    return burn(found[["id", "support"]].dissolve("id").geometry, crop(grid, Window(0, 0, across, down)))
