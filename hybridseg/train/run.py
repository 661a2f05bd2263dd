"""The verb `train`: from a recipe to a model folder."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hybridseg.errors import MissingExtra
from hybridseg.train.classifier import Changes, ClassifierSamples, pool
from hybridseg.train.recipe import DataSet, Recipe, load_recipe
from hybridseg.train.refiner import RefinerSamples, ground
from hybridseg.train.scenes import Scene, load_scenes
from hybridseg.train.sequences import SequenceSamples
from hybridseg.train.supports import find_supports
from townscape import render_town


def train(recipe: Path, data: Path | None = None, runs: Path = Path("runs"), quiet: bool = False) -> Path:
    """Train a model as a recipe says; goes on where an earlier run of the same recipe stopped.

    Args:
        recipe: YAML file, see configs/recipes.
        data: CSV that lists tiles and labels (dataset, image, label, split, place, gsd_m); not needed for towns alone.
        runs: folder for checkpoints and curves.
        quiet: no progress bar.

    Returns:
        the model folder's draft, `runs/<recipe>/model`, to be looked at and copied under models/.
    """
    plan = load_recipe(recipe)
    try:
        from hybridseg.nn.training.fit import Learner, fit
        from hybridseg.nn.training.learners import ClassifierLearner, RefinerLearner
        from hybridseg.nn.training.memory_learner import MemoryLearner, start_memory
        from hybridseg.nn.training.precision import keep_slow_layers_in_fp32, precision
    except ImportError as error:
        raise MissingExtra("training needs Lightning: uv sync --extra train") from error
    import torch

    from hybridseg.nn.backbones.base import freeze
    from hybridseg.nn.cards import model_folder, read_card
    from hybridseg.nn.classify.segmenter import Segmenter
    from hybridseg.nn.sam2.lite import build_sam2_lite
    from hybridseg.nn.weights import load_weights, save_weights

    folder = runs / recipe.stem
    folder.mkdir(parents=True, exist_ok=True)
    # a resumed run draws other samples than those it has seen
    batches = _batches(plan, data, runs, seed=plan.seed + int(time.time()) * (folder / "last.ckpt").exists())
    torch.manual_seed(plan.seed)
    if plan.kind == "classifier":
        learner: Learner = ClassifierLearner(Segmenter(len(plan.classes)), plan.steps, plan.rate)
    else:
        kind = MemoryLearner if plan.kind == "memory" else RefinerLearner
        learner = kind(build_sam2_lite(plan.size_px, plan.size_px), plan.steps, plan.rate)
    started: Mapping[str, Any] = {}
    if plan.start:
        load_weights(learner.net, model_folder(plan.start), plan.classes if plan.kind == "classifier" else None)
    else:
        learner.trunk.load_imagenet()
    if plan.kind == "memory" and plan.start:
        started = read_card(model_folder(plan.start))
        if "memory" not in started:  # this is its first training
            start_memory(learner.net, torch.from_numpy(next(batches)["images"]).flatten(0, 1))
    if plan.free is not None:
        freeze(learner.trunk, plan.free)
    keep_slow_layers_in_fp32(learner.net)
    steps = fit(learner, batches, folder, plan.stop, quiet=quiet, precision=precision(), workers=1)
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
    save_weights(learner.net.eval(), folder / "model", card)
    return folder / "model"


def _batches(plan: Recipe, data: Path | None, runs: Path, seed: int) -> Iterator[Any]:
    scenes = {name: _scenes(name, chosen, data, runs) for name, chosen in plan.sets.items()}
    if plan.kind == "classifier":
        pools = [
            pool(scenes[name], chosen.work_gsd_m or plan.gsd_m, chosen.share, chosen.zoom)
            for name, chosen in plan.sets.items()
        ]
        changes = Changes(plan.shade, plan.dye, plan.park, plan.paste, plan.mix, plan.degrade)
        return ClassifierSamples(pools, plan.classes, plan.size_px, changes=changes).batches(plan.batch, seed)
    grounds = {
        name: [ground(scene, find_supports(scene, plan.sets[name], runs)) for scene in found]
        for name, found in scenes.items()
    }
    shares = {name: chosen.share for name, chosen in plan.sets.items()}
    usable = {name: [g for g in found if len(g.boxes)] for name, found in grounds.items()}
    samples = SequenceSamples if plan.kind == "memory" else RefinerSamples
    return samples(usable, shares, plan.size_px).batches(plan.batch, seed)


def _memory_card(started: Mapping[str, Any], recipe: Path, plan: Recipe, steps: int) -> dict[str, Any]:
    """The refiner's card, as its masks of single images have not changed, with what is now known of its memory."""
    recipes = [name for name in started.get("recipes", [started.get("recipe")]) if name not in (None, recipe.name)]
    memory = {"recipe": recipe.name, "steps": steps, "trained": time.strftime("%Y-%m-%d")}
    return {**started, "name": plan.model, "recipes": [*recipes, recipe.name], "memory": memory, **plan.card}


def _scenes(name: str, chosen: DataSet, data: Path | None, runs: Path) -> list[Scene]:
    if chosen.towns:
        return [_town(seed, runs / "towns", chosen.without) for seed in range(1000, 1000 + chosen.towns)]
    return load_scenes(data or Path("tiles.csv"), chosen.dataset or name, chosen)


def _town(seed: int, kept: Path, without: Sequence[str]) -> Scene:
    """A rendered town at a drawn GSD; seeds from 1000 on are training ground, those below are for demo and tests."""
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
    return Scene(image, objects, np.ones(instances.shape, bool), gsd_m, "town", f"town-{seed}")
