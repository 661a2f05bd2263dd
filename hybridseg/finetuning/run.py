"""The verb `finetune`: from scenes and labels to a model folder of one's own."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hybridseg.finetuning.check import check_free, check_ground, check_gsd, check_numbers, check_refiners, check_themes
from hybridseg.finetuning.fit import Training, card_of, find_start, fit_linear_head, linear_name, load_trunk, shown_to
from hybridseg.finetuning.model import Finetuned, check_folder, model_at
from hybridseg.finetuning.settle import Settle
from hybridseg.labels.codes import parse_classes
from hybridseg.labels.labelled import LabelledGrid, on_grid, read_labelled
from hybridseg.labels.split import SplitBlocks
from hybridseg.read.opening import open_scene
from hybridseg.run.progress import Progress, Quiet
from hybridseg.run.request import Paths, join_arguments, parse_bands, parse_numbers
from hybridseg.theme import Theme, load_theme, theme_path

FRESH = 1e-3
"""Learning rate of an untrained convolutional head."""


def finetune(
    *,
    scene: Paths,
    labels: Paths,
    theme: str,
    out: Path,
    head: Literal["linear", "conv"] = "linear",
    backbone: str = "lite0",
    free: int = 0,
    column: str | None = None,
    classes: str | None = None,
    width: str | None = None,
    complete_within: Paths | None = None,
    gsd: float | None = None,
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
) -> Finetuned:
    """Train a classifier on your own labels, and make a model folder of it for `extract --model`.

    Args:
        scene: one raster or several.
        labels: layer of polygons or lines, or a raster of class codes; one for each scene, in order.
        theme: what the classes are like: buildings, fields, roads, solar, water, or the path of a theme's YAML; with
            commas between for several classes at once.
        out: the model folder to write. A training goes on in OUT.run where it was stopped.
        head: linear (scikit-learn, in seconds) or conv (Lightning, in minutes; needs the extra `train`).
        backbone: lite0, sam2, sam2:REFINER, timm:NAME, torchgeo:WEIGHTS, terratorch:NAME or index:EXPRESSION
            (index:ndwi, whose scale alone is learnt).
        free: with conv, how many of the backbone's last stages are trained too; none by default.
        column: column of the class in the labels.
        classes: what the labels call each class, as in building=1,road=2; default: its name.
        width: of lines, in metres, or the name of the column that holds it.
        complete_within: polygon layer inside which every object is drawn, one for each scene; ground outside that is
            not labelled is unknown. Default: the whole scene is labelled.
        gsd: metres a pixel to work at, at the finest a tenth of the scene's own; default: what the theme's
            classifier does.
        bands: numbers of the red, green and blue bands, as in 4,3,2: for the refiner, and for backbones that see them;
            or names with numbers, red=1,green=2,blue=3,nir=4, for an index.
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
        the model folder (weights.safetensors, card.yaml, theme.yaml or theme-NAME.yaml each for several, curves.png),
        and its card.

    Raises:
        HybridsegError: bad input; one line that says what came, what is allowed and what to do.
    """
    themes = [load_theme(name.strip()) for name in theme.split(",")]
    check_themes(themes)
    check_numbers(validation=validation, steps=steps, patience=patience, batch=batch, free=free, rate=rate, seed=seed)
    names = [t.label for t in themes]
    called = parse_classes(classes, names, column)
    given_labels = join_arguments(scene, labels, complete_within)
    sources = [open_scene(path, bands=parse_bands(bands)) for path, _, _ in given_labels]
    check_gsd(gsd, sources, backbone)
    start = find_start(themes, backbone, sources)
    read = [theme_path(name.strip()) for name in theme.split(",")]
    check_folder(out, [*read, *(path for of_scene in given_labels for path in of_scene), (start or {}).get("folder")])
    views = shown_to(backbone, start, sources, parse_numbers(backbone_bands, "backbone-bands"))
    trunk = load_trunk(backbone, head, start, device)
    check_free(free, head, trunk)
    own_m = gsd or (start or {}).get("gsd_m") or float(np.median([s.gsd_m for s in sources]))
    if backbone.partition(":")[0] == "sam2":
        refiner = refiner or backbone.partition(":")[2] or None
        themes = [_sharing(t) if head == "linear" or not free else t for t in themes]
    themes = [_at_gsd(t, fixed=gsd is not None or start is None or len(themes) > 1) for t in themes]
    check_refiners(themes, refiner, device)
    snap = trunk.snap_px
    grids = []
    for source, view, (_, layer, area) in zip(sources, views, given_labels, strict=True):
        work_m = themes[0].gsd_m(source.gsd_m, None if trunk.pointwise else own_m)
        labelled = read_labelled(
            source, layer, called, column=column, width=width, complete_within=area, gsd_m=work_m, snap_px=snap
        )
        grids.append(on_grid(labelled, names, work_m, snap, view))
    splits = SplitBlocks(validation, seed=seed).split([grid.image for grid in grids])
    check_ground(grids, splits, names)
    with model_at(out) as folder:
        if head == "linear":
            net = fit_linear_head(trunk, start, grids, splits, names, seed, device)
            card = _card(out.name, head, linear_name(backbone, start), trunk, names, own_m, start, grids)
        else:
            rate = rate or (FRESH if start is None else FRESH / 2)
            given = {"backbone": backbone, "start": None if start is None else str(start["folder"]), "free": free,
                     "classes": names, "gsd_m": own_m, "validation": validation, "batch": batch, "rate": rate,
                     "seed": seed}  # fmt: skip
            run = _run_folder(out, given, grids)
            plan = Training(names, steps, patience, batch, rate, free, seed, device, quiet)
            net, reached = plan(trunk, start, grids, splits, run)
            shutil.copyfile(run / "curves.png", folder / "curves.png")
            card = {**_card(out.name, head, backbone, trunk, names, own_m, start, grids), "steps": reached}
        searching = search_settings and refiner != "none"
        settle = Settle(folder, grids, splits, searching, refiner, device, progress or Quiet())
        scenes = ", ".join(grid.image.name for grid in grids)
        card = settle(net.eval(), card, themes, f"after finetune on {scenes}")
    return Finetuned(out, card)


def _at_gsd(theme: Theme, fixed: bool) -> Theme:
    return theme.model_copy(update={"work_gsd_m": None, "max_gsd_m": None}) if fixed else theme


def _sharing(theme: Theme) -> Theme:
    """Encoded once, where the encoder stays as it is; pieces of regions are mostly larger than shared windows serve."""
    return theme if theme.objects.in_pieces else theme.with_prompts(windows="shared")


def _run_folder(out: Path, given: Mapping[str, Any], grids: Sequence[LabelledGrid]) -> Path:
    """Return the folder of checkpoints and curves of these arguments and labels; other ones start anew."""
    key = hashlib.sha256(json.dumps(given, sort_keys=True).encode())
    for image in (grid.image for grid in grids):  # the pixels and labels themselves: files may change in place
        for layer in (image.image, image.valid, *image.objects.values()):
            key.update(np.ascontiguousarray(layer).data)
    folder = out.with_name(f"{out.name}.run") / key.hexdigest()[:8]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _card(
    name: str,
    head: str,
    backbone: str,
    trunk: Any,
    names: Sequence[str],
    own_m: float,
    start: Mapping[str, Any] | None,
    grids: Sequence[LabelledGrid],
) -> dict[str, Any]:
    seen = [grid.labelled.scene.gsd_m for grid in grids]
    finest, coarsest = (start or {}).get("gsd_range_m", (min(seen) / 2, max(seen) * 1.5))
    objects = {n: sum(len(np.unique(layer[layer > 0])) for layer in (g.image.objects[n] for g in grids)) for n in names}
    return {
        "name": name,
        "kind": "classifier",
        "head": {"conv": "pyramid"}.get(head, head),
        "backbone": backbone,
        "trained": time.strftime("%Y-%m-%d"),
        "classes": list(names),
        "gsd_m": round(float(own_m), 4),
        "gsd_range_m": [round(float(min(finest, *seen)), 4), round(float(max(coarsest, *seen)), 4)],
        **card_of(trunk, grids[0].view),
        "start": None if start is None else start["folder"].name,
        "data": [f"{Path(g.labelled.scene.name).name}, labels {g.labelled.name}" for g in grids],
        "objects": objects,
    }
