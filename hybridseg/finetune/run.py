"""The verb `finetune`: from scenes and labels to a model folder of one's own."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import shapely

from hybridseg.errors import ThemeError
from hybridseg.finetune.bands import card_of, shown_to
from hybridseg.finetune.check import check_free, check_ground, check_gsd, check_numbers, check_refiners, check_themes
from hybridseg.finetune.classes import parse_classes
from hybridseg.finetune.fit import Training, find_start, fit_linear_head, linear_name, load_trunk
from hybridseg.finetune.folder import model_at
from hybridseg.finetune.labels import Ground, read_ground
from hybridseg.finetune.score import judge
from hybridseg.finetune.split import Split, SplitBlocks
from hybridseg.read.raster import RasterScene
from hybridseg.run.arguments import parse_bands
from hybridseg.run.engine import Progress
from hybridseg.theme import InstancePolicy, Theme, load_theme
from hybridseg.tune.run import QUIET, Labelled, search, write_theme

LEAST = 20
"""Fewer objects than this choose no settings: the search would fit them, and lose elsewhere."""
FRESH = 1e-3
"""Learning rate of an untrained convolutional head."""
HERE = "."
"""The classifier of a theme that lies in its own model folder, wherever that is moved to."""


def finetune(
    *,
    scene: str,
    labels: str,
    theme: str,
    out: Path,
    head: Literal["linear", "conv"] = "linear",
    backbone: str = "lite0",
    free: int = 0,
    column: str | None = None,
    classes: str | None = None,
    width: str | None = None,
    complete_within: str | None = None,
    gsd_m: float | None = None,
    bands: str | None = None,
    backbone_bands: str | None = None,
    validation: float = 0.25,
    steps: int = 600,
    patience: int = 5,
    batch: int = 8,
    rate: float | None = None,
    search_settings: bool = True,
    refiner: str | None = None,
    seed: int = 0,
    device: str = "auto",
    quiet: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Train a classifier on your own labels, and make a model folder of it for `extract --model`.

    Args:
        scene: raster, or several with commas between.
        labels: layer of polygons or lines, or a raster of class codes; one for each scene, in order.
        theme: what the classes are like: buildings, fields, roads, solar, water, or the path of a theme's YAML; with
            commas between for several classes at once.
        out: the model folder to write. A training goes on in OUT.run where it was stopped.
        head: linear (scikit-learn, in seconds) or conv (Lightning, in minutes; needs the extra `train`).
        backbone: lite0, sam2, sam2:REFINER, timm:NAME, torchgeo:WEIGHTS or terratorch:NAME.
        free: with conv, how many of the backbone's last stages are trained too; none by default.
        column: column of the class in the labels.
        classes: what the labels call each class, as in building=1,road=2; default: its name.
        width: of lines, in metres, or the name of the column that holds it.
        complete_within: polygon layer inside which every object is drawn, one for each scene; ground outside that is
            not labelled is unknown. Default: the whole scene is labelled.
        gsd_m: metres a pixel to work at; default: what the theme's classifier does.
        bands: numbers of the red, green and blue bands, as in 4,3,2: for the refiner, and for backbones that see them.
        backbone_bands: numbers of the bands of a backbone that was trained on others (torchgeo's SENTINEL2_ALL,
            Prithvi), in its order; default: all bands of the scene, where it has as many.
        validation: share of the objects kept, in whole blocks, to judge by.
        steps: with conv, most steps.
        patience: with conv, looks at the validation blocks without gain before it stops.
        batch: with conv, crops a step.
        rate: with conv, learning rate; default: 1e-3, or half of that for a head that goes on from a trained one.
        search_settings: find thresholds, prompts and gate on the validation blocks, where they hold 20 objects or more.
        refiner: as for extract; default: the theme's, or sam2-lite in the search, after which the theme gets `none`
            where the coarse outlines score better. With `none` nothing is searched.
        seed: draws blocks, pixels and crops.
        device: auto, cpu, cuda, mps.
        quiet: no bars that say how far it is.
        progress: told how far the search is (Python only).

    Returns:
        the model folder: weights.safetensors, card.yaml, theme.yaml (theme-NAME.yaml each for several), curves.png.

    Raises:
        HybridsegError: bad input; one line that says what came, what is allowed and what to do.
    """
    themes = [load_theme(name.strip()) for name in theme.split(",")]
    check_themes(themes)
    check_numbers(
        validation=validation, steps=steps, patience=patience, batch=batch, free=free, rate=rate, gsd_m=gsd_m, seed=seed
    )
    names = [t.label for t in themes]
    called = parse_classes(classes, names, column)
    sources = [RasterScene.open(path, parse_bands(bands)) for path in scene.split(",")]
    check_gsd(gsd_m, sources)
    start = find_start(themes, backbone, sources)
    views = shown_to(backbone, start, sources, parse_bands(backbone_bands, "backbone-bands"))
    trunk = load_trunk(backbone, head, start, device)
    check_free(free, head, trunk)
    own_m = gsd_m or (start or {}).get("gsd_m") or float(np.median([s.gsd_m for s in sources]))
    if backbone.partition(":")[0] == "sam2":
        refiner = refiner or backbone.partition(":")[2] or None
        themes = [_sharing(t) if head == "linear" or not free else t for t in themes]
    themes = [_at_gsd(t, fixed=gsd_m is not None or start is None or len(themes) > 1) for t in themes]
    check_refiners(themes, refiner, device)
    grounds = _grounds(sources, views, labels, complete_within, themes[0], own_m, trunk, called, column, width)
    splits = _splits(grounds, SplitBlocks(validation, seed=seed))
    check_ground(grounds, splits, names)
    with model_at(out) as folder:
        if head == "linear":
            net = fit_linear_head(trunk, start, grounds, splits, names, seed)
            card = _card(out.name, head, linear_name(backbone, start), trunk, names, own_m, start, grounds)
        else:
            rate = rate or (FRESH if start is None else FRESH / 2)
            given = {"backbone": backbone, "start": None if start is None else str(start["folder"]), "free": free,
                     "classes": names, "gsd_m": own_m, "validation": validation, "batch": batch, "rate": rate,
                     "seed": seed}  # fmt: skip
            run = _run_folder(out, given, grounds)
            plan = Training(names, steps, patience, batch, rate, free, seed, device, quiet)
            net, reached = plan(trunk, start, grounds, splits, run)
            shutil.copyfile(run / "curves.png", folder / "curves.png")
            card = {**_card(out.name, head, backbone, trunk, names, own_m, start, grounds), "steps": reached}
        settle = _Settle(
            folder, grounds, splits, search_settings and refiner != "none", refiner, device, progress or QUIET
        )
        settle(net.eval(), card, themes, f"after finetune on {scene}")
    return out


def _at_gsd(theme: Theme, fixed: bool) -> Theme:
    return theme.model_copy(update={"work_gsd_m": None, "max_gsd_m": None}) if fixed else theme


def _sharing(theme: Theme) -> Theme:
    """Encoded once, where the encoder stays as it is; pieces of regions are mostly larger than shared windows serve."""
    return theme.with_prompts(windows="shared") if isinstance(theme.objects, InstancePolicy) else theme


def _grounds(
    sources: Sequence[RasterScene],
    views: Sequence[RasterScene],
    labels: str,
    within: str | None,
    theme: Theme,
    own_m: float,
    trunk: Any,
    classes: Mapping[str, str | None],
    column: str | None,
    width: str | None,
) -> list[Ground]:
    layers = labels.split(",")
    areas: Sequence[str | None] = within.split(",") if within else [None] * len(sources)
    if not len(sources) == len(layers) == len(areas):
        raise ThemeError(
            f"{len(sources)} scenes came with {len(layers)} labels and {len(areas)} areas; give one for each, in order"
        )
    return [
        read_ground(
            source, layer, classes, theme.gsd_m(source.gsd_m, own_m), trunk.snap_px,
            column=column, width=width, complete_within=area, seen=view,
        )
        for source, view, layer, area in zip(sources, views, layers, areas, strict=True)
    ]  # fmt: skip


def _splits(grounds: Sequence[Ground], split: SplitBlocks) -> list[Split]:
    return [split(ground.scene.instances, ground.scene.valid) for ground in grounds]


def _run_folder(out: Path, given: Mapping[str, Any], grounds: Sequence[Ground]) -> Path:
    """Where checkpoints and curves of these arguments and labels lie; others start anew. More steps go on."""
    key = hashlib.sha256(json.dumps(given, sort_keys=True).encode())
    for scene in (ground.scene for ground in grounds):  # what was read, wherever it lies: files may change in place
        for layer in (scene.image, scene.valid, *scene.objects.values()):
            key.update(np.ascontiguousarray(layer).data)
    folder = out.with_name(f"{out.name}.run") / key.hexdigest()[:8]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@dataclass(frozen=True)
class _Settle:
    """What is found on the validation blocks once the network is there: settings, what scores mean, how good it is."""

    out: Path
    grounds: Sequence[Ground]
    splits: Sequence[Split]
    searching: bool
    refiner: str | None
    device: str
    progress: Progress

    def __call__(self, net: Any, card: Mapping[str, Any], themes: Sequence[Theme], how: str) -> None:
        """Write the model folder: first as it is, since the search looks with it, then with all that was found."""
        from hybridseg.nn.weights import save_weights

        save_weights(net, self.out, card)
        table: dict[str, list[list[float]]] = {}
        scores: list[dict[str, Any]] = []
        for theme in themes:
            ready, curve, lines = self._theme(theme)
            path = self.out / ("theme.yaml" if len(themes) == 1 else f"theme-{theme.name}.yaml")
            write_theme(ready.model_copy(update={"classifier": HERE}), path, f"{theme.name} {how}")
            table |= {} if curve is None else {theme.label: curve}
            scores += [{"class": theme.label, **line} for line in lines]
        found = {"command": "hybridseg finetune", "what": "validation blocks, which the search saw", "places": scores}
        save_weights(net, self.out, {**card, "scores": found, "calibration": table})

    def _theme(self, theme: Theme) -> tuple[Theme, list[list[float]] | None, list[dict[str, Any]]]:
        pairs = zip(self.grounds, self.splits, strict=True)
        places = [place for g, split in pairs if (place := _place(theme.label, g, split)) is not None]
        ready = theme.model_copy(update={"classifier": str(self.out), "refiner": self.refiner or theme.refiner})
        if not places:
            return ready, None, []
        objects = sum(int(place.truth.intersects(place.area).sum()) for place in places)
        if self.searching and (objects >= LEAST or not isinstance(theme.objects, InstancePolicy)):
            ready, _ = search(ready, places, self.refiner or "sam2-lite", self.device, self.progress)
        return ready, *judge(ready, places, self.device, self.progress)


def _place(label: str, ground: Ground, split: Split) -> Labelled | None:
    """Validation blocks with all objects of a class; None where they hold none."""
    area = shapely.intersection(split.area(ground.grid.affine), ground.known)
    truth = ground.truth[ground.truth["class"] == label][["geometry"]].reset_index(drop=True)
    if area.is_empty or not truth.intersects(area).any():
        return None
    x0, y0, x1, y1 = area.bounds
    left, bottom, right, top = ground.source.geobox.boundingbox.bbox
    extent = max(x0, left), max(y0, bottom), min(x1, right), min(y1, top)
    return Labelled(Path(ground.source.path), truth, area, extent, bands=ground.source.bands)


def _card(
    name: str,
    head: str,
    backbone: str,
    trunk: Any,
    names: Sequence[str],
    own_m: float,
    start: Mapping[str, Any] | None,
    grounds: Sequence[Ground],
) -> dict[str, Any]:
    seen = [g.source.gsd_m for g in grounds]
    finest, coarsest = (start or {}).get("gsd_range_m", (min(seen) / 2, max(seen) * 1.5))
    objects = {n: sum(len(np.unique(g.scene.objects[n])) - 1 for g in grounds) for n in names}
    return {
        "name": name,
        "kind": "classifier",
        "head": {"conv": "pyramid"}.get(head, head),
        "backbone": backbone,
        "trained": time.strftime("%Y-%m-%d"),
        "classes": list(names),
        "gsd_m": round(float(own_m), 4),
        "gsd_range_m": [round(float(min(finest, *seen)), 4), round(float(max(coarsest, *seen)), 4)],
        **card_of(trunk, grounds[0].seen),
        "start": None if start is None else start["folder"].name,
        "data": [f"{Path(g.source.path).name}, labels {g.scene.dataset}" for g in grounds],
        "objects": objects,
    }
