"""The verb `train`: from a recipe to a model folder."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hybridseg import nn
from hybridseg.labels.images import LabelledImage
from hybridseg.labels.samples import Changes, ClassifierSamples, pool, stream_seed
from hybridseg.training.datasets import load_images
from hybridseg.training.recipe import DataSet, Recipe, load_recipe
from hybridseg.training.refiner import RefinerSamples, boxed
from hybridseg.training.sequences import SequenceSamples
from hybridseg.training.supports import find_supports
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
    plan = load_recipe(recipe)
    folder = runs / recipe.stem
    folder.mkdir(parents=True, exist_ok=True)
    batches = _batches(plan, data, runs, stream_seed(plan.seed, nn.training.fit.step_reached(folder)))
    nn.device.seed_everything(plan.seed)
    learner = _learner(plan)
    started: Mapping[str, Any] = {}
    if plan.start:
        classes = plan.classes if plan.kind == "classifier" else None
        nn.weights.load_weights(learner.net, nn.cards.model_folder(plan.start), classes)
    else:
        learner.trunk.load_imagenet()
    if plan.kind == "memory" and plan.start:
        started = nn.cards.read_card(nn.cards.model_folder(plan.start))
        if "memory" not in started:  # this is its first training
            images = next(batches)["images"]
            nn.training.memory_learner.start_memory(learner.net, images.reshape(-1, *images.shape[2:]))
    if plan.free is not None:
        nn.backbones.base.freeze(learner.trunk, plan.free)
    nn.training.fit.keep_slow_layers_in_fp32(learner.net)
    precision = nn.training.fit.precision()
    steps = nn.training.fit.fit(learner, batches, folder, plan.stop, quiet=quiet, precision=precision, workers=1)
    card = {
        "name": plan.model,
        "kind": plan.kind,
        "recipe": recipe.name,
        "steps": steps,
        "trained": time.strftime("%Y-%m-%d"),
        **({"classes": plan.classes, "gsd_m": plan.gsd_m} if plan.kind == "classifier" else {}),
        **plan.card,
    }
    if plan.kind == "memory":
        card = _memory_card(started, recipe, plan, steps)
    nn.weights.save_weights(learner.net.eval(), folder / "model", card)
    return folder / "model"


def _learner(plan: Recipe) -> nn.training.fit.Learner:
    """The network of a recipe, with its loss."""
    if plan.kind == "classifier":
        net = nn.classify.segmenter.Segmenter(len(plan.classes))
        return nn.training.learners.ClassifierLearner(net, plan.steps, plan.rate)
    lite = nn.sam2.lite.build_sam2_lite(plan.size_px, plan.size_px)
    if plan.kind == "memory":
        return nn.training.memory_learner.MemoryLearner(lite, plan.steps, plan.rate)
    return nn.training.learners.RefinerLearner(lite, plan.steps, plan.rate)


def _batches(plan: Recipe, data: Path | None, runs: Path, seed: int | Sequence[int]) -> Iterator[Any]:
    images = {name: _images(name, chosen, data, runs) for name, chosen in plan.sets.items()}
    if plan.kind == "classifier":
        pools = [
            pool(images[name], chosen.work_gsd_m or plan.gsd_m, chosen.share, chosen.zoom)
            for name, chosen in plan.sets.items()
        ]
        changes = Changes(plan.shade, plan.dye, plan.park, plan.paste, plan.mix, plan.degrade)
        return ClassifierSamples(pools, plan.classes, plan.size_px, changes=changes).batches(plan.batch, seed)
    ready = {
        name: [boxed(image, find_supports(image, plan.sets[name], runs)) for image in found]
        for name, found in images.items()
    }
    shares = {name: chosen.share for name, chosen in plan.sets.items()}
    usable = {name: [one for one in found if len(one.boxes)] for name, found in ready.items()}
    samples = SequenceSamples if plan.kind == "memory" else RefinerSamples
    return samples(usable, shares, plan.size_px).batches(plan.batch, seed)


def _memory_card(started: Mapping[str, Any], recipe: Path, plan: Recipe, steps: int) -> dict[str, Any]:
    """Return the refiner's card, as its masks of single images have not changed, with the training of its memory."""
    recipes = [name for name in started.get("recipes", [started.get("recipe")]) if name not in (None, recipe.name)]
    memory = {"recipe": recipe.name, "steps": steps, "trained": time.strftime("%Y-%m-%d")}
    return {**started, "name": plan.model, "recipes": [*recipes, recipe.name], "memory": memory, **plan.card}


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
        # several trainings may render at once: only a whole file gets the name
        with tempfile.NamedTemporaryFile(dir=kept, suffix=".npz", delete=False) as file:
            np.savez(file, image=town.image.transpose(1, 2, 0), instances=town.instances())
        Path(file.name).replace(path)
    with np.load(path) as stored:
        image, instances = stored["image"], stored["instances"]
    objects = {"building": instances, **dict.fromkeys(without, np.zeros_like(instances))}
    return LabelledImage(image, objects, np.ones(instances.shape, bool), gsd_m, "town", f"town-{seed}")
