"""The verb `train`: from a recipe to a model folder."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hybridseg.demo.town import render_town
from hybridseg.train.classifier import ClassifierSamples, targets
from hybridseg.train.recipe import DataSet, Recipe, load_recipe
from hybridseg.train.refiner import RefinerSamples, ground
from hybridseg.train.scenes import Scene, load_scenes


def train(recipe: Path, data: Path | None = None, runs: Path = Path("runs"), quiet: bool = False) -> Path:
    """Train a model as a recipe says; goes on where an earlier run of the same recipe stopped.

    Args:
        recipe: YAML file, see configs/recipes.
        data: CSV that lists tiles and labels (dataset, image, label, split, place, gsd_m); not needed for towns alone.
        runs: folder for checkpoints and curves.
        quiet: no progress bar.

    Returns: the model folder's draft, `runs/<recipe>/model`, to be looked at and copied under models/.
    """
    import torch

    from hybridseg.nn.fit import fit
    from hybridseg.nn.learn import ClassifierLearner, RefinerLearner
    from hybridseg.nn.lite import build_sam2_lite
    from hybridseg.nn.segmenter import Segmenter
    from hybridseg.nn.weights import load_weights, model_folder, save_weights

    plan = load_recipe(recipe)
    folder = runs / recipe.stem
    folder.mkdir(parents=True, exist_ok=True)
    # a resumed run draws other samples than those it has seen
    batches = _batches(plan, data, seed=plan.seed + int(time.time()) * (folder / "last.ckpt").exists())
    torch.manual_seed(plan.seed)
    if plan.kind == "classifier":
        net = Segmenter(classes=1)
        learner = ClassifierLearner(net, plan.steps, plan.rate)
        trunk = net.trunk
    else:
        net = build_sam2_lite(plan.size_px)
        learner = RefinerLearner(net, plan.steps, plan.rate)
        trunk = net.image_encoder.trunk
    if plan.start:
        load_weights(net, model_folder(plan.start))
    else:
        trunk.load_imagenet()
    steps = fit(learner, batches, folder, quiet=quiet)
    card = {
        "name": plan.model,
        "kind": plan.kind,
        "recipe": recipe.name,
        "steps": steps,
        "trained": time.strftime("%Y-%m-%d"),
        **plan.card,
    }
    save_weights(net.eval(), folder / "model", card)
    return folder / "model"


def _batches(plan: Recipe, data: Path | None, seed: int) -> Iterator[Any]:
    scenes = {name: _scenes(name, chosen, data) for name, chosen in plan.sets.items()}
    shares = {name: chosen.share for name, chosen in plan.sets.items()}
    if plan.kind == "classifier":
        pools = {name: targets(found, plan.gsd_m) for name, found in scenes.items()}
        return ClassifierSamples(pools, shares, plan.size_px).batches(plan.batch, seed)
    grounds = {
        name: [ground(scene, _supports(scene, plan.sets[name].supports)) for scene in found]
        for name, found in scenes.items()
    }
    usable = {name: [g for g in found if len(g.boxes)] for name, found in grounds.items()}
    return RefinerSamples(usable, shares, plan.size_px, bare=plan.bare).batches(plan.batch, seed)


def _scenes(name: str, chosen: DataSet, data: Path | None) -> list[Scene]:
    if chosen.towns:
        return [_town(seed) for seed in range(1000, 1000 + chosen.towns)]
    return load_scenes(data or Path("tiles.csv"), name, chosen.split)


def _town(seed: int) -> Scene:
    """A rendered town at a drawn GSD; seeds from 1000 on are training ground, those below are for demo and tests."""
    gsd_m = float(np.random.default_rng(seed).choice([0.15, 0.2, 0.25, 0.3]))
    town = render_town(768, gsd_m, seed)
    image = np.ascontiguousarray(town.image.transpose(1, 2, 0))
    return Scene(image, town.instances(), np.ones(image.shape[:2], bool), gsd_m, "town", f"town-{seed}")


def _supports(scene: Scene, model: str | None) -> np.ndarray | None:
    """Coarse supports from a classifier's heatmap, (h, w) int32; none without a model."""
    if model is None:
        return None
    raise NotImplementedError
