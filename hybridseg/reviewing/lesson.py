"""What decisions teach: the ground that they tell of, and a linear head that is fitted on it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely

from hybridseg import nn
from hybridseg.errors import ReviewError
from hybridseg.finetuning.fit import card_of, find_start, fit_linear_head, linear_name, load_trunk
from hybridseg.labels.images import LabelledImage
from hybridseg.labels.labelled import Labelled, LabelledGrid
from hybridseg.labels.layers import burn
from hybridseg.labels.split import Split
from hybridseg.read.ground import work_grid
from hybridseg.read.scene import Scene
from hybridseg.reviewing.objects import Object
from hybridseg.theme import Theme

LEAST, LEAST_RIGHT = 12, 3
"""Decisions that it takes, and right objects among them. A correction from ten, with none held out, lost F1 on two
of three places (docs/decisions.md)."""
RING_M = 3.0
"""Least width of the ground around a decided object that was looked at with it; large objects get half their size."""
TILE_PX = 512
"""Side of the pieces, in pixels of the working grid, in which the ground is read."""
SURE = 0.15
"""Probability below which ground that nobody has decided on counts as none of the class."""
_HELD_OUT = 4
"""Each so manieth decision is not learnt from: it chooses the penalty, or the classifier as it was."""


@dataclass(frozen=True, eq=False)
class Lesson:
    """Ground on which a class is known, one place a decision. Geometries are in the scene's CRS.

    label: the class.
    places: (N,) the outline decided on and a ring around it, less what is not decided yet.
    objects: (M,) outlines of the class that are right.
    presumed: (K,) outlines of the class that nobody has decided on.
    false: number of outlines that a person rejected.
    """

    label: str
    places: np.ndarray
    objects: np.ndarray
    presumed: np.ndarray
    false: int

    @classmethod
    def of(cls, objects: Sequence[Object], label: str, scene: Scene) -> Lesson:
        """Return what the objects of a review teach of a class.

        Args:
            objects: all of the review, decided or not, on the map or not.
            label: the class.
            scene: gives the length of a metre.

        Raises:
            ReviewError: fewer than `LEAST` are decided, or fewer than `LEAST_RIGHT` right.
        """
        right = [one.geometry for one in objects if one.decided and one.present and one.label == label]
        other = [one for one in objects if one.decided and one.present and one.label != label]
        false = [one for one in objects if one.verdict == "rejected" and one.label == label]
        decided = np.array([*right, *(one.geometry for one in [*other, *false])], dtype=object)
        if len(decided) < LEAST or len(right) < LEAST_RIGHT:
            raise ReviewError(
                f"{len(decided)} decisions, {len(right)} of them right objects of class {label}, are too few to learn "
                f"from; decide on {LEAST} or more, {LEAST_RIGHT} of them right"
            )
        unknown = [one for one in objects if one.present and not one.decided]
        presumed = np.array([one.geometry for one in unknown if one.label == label], dtype=object)
        around = np.array([one.geometry for one in unknown], dtype=object)
        places = _places(decided, around, RING_M / max(scene.metres_per_unit))
        return cls(label, places, np.array(right, dtype=object), presumed, len(false))


@dataclass(frozen=True)
class Taught:
    """A classifier made of decisions.

    net: the network, in eval mode.
    card: of its model folder.
    """

    net: Any
    card: dict[str, Any]

    def save(self, folder: Path) -> None:
        """Write weights and card into a folder."""
        nn.weights.save_weights(self.net, folder, self.card)


def teach(lesson: Lesson, scene: Scene, theme: Theme, device: str = "auto") -> Taught:
    """Fit a linear head on the features of a theme's own classifier, as a correction to its last layer.

    Args:
        lesson: the ground that is known.
        scene: what it lies on.
        theme: whose classifier is corrected.
        device: auto, cpu, cuda, mps.

    Raises:
        ReviewError: the theme's classifier has no such layer, as an index or a linear head of one's own.
    """
    start = find_start([theme], "lite0", [scene])
    if start is None or theme.label not in start["classes"]:
        raise ReviewError(
            f"the classifier of theme {theme.name} cannot be corrected by decisions; export what is decided, and give "
            "that to `hybridseg finetune`"
        )
    trunk = load_trunk("lite0", "linear", start, device)
    gsd_m = theme.gsd_m(scene.gsd_m, start["gsd_m"])
    sure = nn.classify.classifier.load_classifier(start["folder"], device)
    grids, splits = _grids(lesson, scene, gsd_m, trunk.snap_px, sure)
    net = fit_linear_head(trunk, start, grids, splits, [lesson.label], 0, device)
    card = {
        "name": f"{theme.name} of a review",
        "kind": "classifier",
        "head": "linear",
        "backbone": linear_name("lite0", start),
        "trained": time.strftime("%Y-%m-%d"),
        "classes": [lesson.label],
        "gsd_m": start["gsd_m"],
        "gsd_range_m": start["gsd_range_m"],
        **card_of(trunk, scene),
        "start": start["folder"].name,
        "data": [f"{Path(scene.name).name}, decisions of a review"],
        "objects": {lesson.label: len(lesson.objects), "rejected": lesson.false},
    }
    return Taught(net.eval(), card)


def _places(decided: np.ndarray, unknown: np.ndarray, least: float) -> np.ndarray:
    """Each outline with a ring around it, less the unknown ones that it meets."""
    grown = shapely.buffer(decided, np.maximum(least, 0.5 * np.sqrt(shapely.area(decided))), quad_segs=2)
    tree = shapely.STRtree(unknown)
    for number, place in enumerate(grown):
        if len(near := tree.query(place)):
            without = shapely.difference(place, shapely.union_all(unknown[near]))
            grown[number] = shapely.union(without, decided[number])
    return np.asarray(grown)


def _grids(
    lesson: Lesson, scene: Scene, gsd_m: float, snap_px: int, sure: Any
) -> tuple[list[LabelledGrid], list[Split]]:
    """The known ground in pieces around the decisions, and what of it is learnt from.

    Decisions alone are no fair sample of the ground, and would move the classifier on all of it. So what it is sure of
    around them holds it: objects that nobody has decided on, and ground that is clearly none.
    """
    layer = 2 * sure.card["classes"].index(lesson.label)
    dx, dy = (TILE_PX * gsd_m / scale for scale in scene.metres_per_unit)
    middles = shapely.get_coordinates(shapely.centroid(lesson.places))
    held = np.arange(len(lesson.places)) % _HELD_OUT == _HELD_OUT - 1
    cells = np.floor(middles / (dx, dy)).astype(int)
    scene_box = shapely.box(*scene.geobox.boundingbox.bbox)
    everything = np.concatenate([lesson.objects, lesson.presumed])
    tree = shapely.STRtree(everything)
    grids, splits = list[LabelledGrid](), list[Split]()
    for cell in np.unique(cells, axis=0):
        mine = (cells == cell).all(axis=1)
        tile = shapely.box(*(cell * (dx, dy)), *((cell + 1) * (dx, dy)))
        area = shapely.intersection(shapely.union_all([tile, *lesson.places[mine]]), scene_box)
        if area.is_empty:
            continue
        truth = gpd.GeoSeries(everything[tree.query(area, "intersects")], crs=scene.crs)
        grid = work_grid(scene, gsd_m, snap_px, tuple(area.bounds))
        chip = scene.read_grid(grid)

        def known(chosen: np.ndarray, grid: Any = grid, valid: np.ndarray = chip.valid) -> np.ndarray:
            return (burn(gpd.GeoSeries(lesson.places[chosen]), grid) > 0) & valid

        heat = sure.predict(chip.pixels)[layer].repeat(sure.spec.stride, 0).repeat(sure.spec.stride, 1)
        heat = heat[: chip.valid.shape[0], : chip.valid.shape[1]]
        inside = burn(truth, grid)
        missed = (heat > SURE) & (inside == 0) & ~(burn(gpd.GeoSeries(lesson.places[mine]), grid) > 0)
        fold = known(mine & held)
        learnt = (known(mine & ~held) | (chip.valid & ~missed)) & ~fold
        image = LabelledImage(
            image=np.ascontiguousarray(chip.pixels.transpose(1, 2, 0)),
            objects={lesson.label: inside},
            valid=learnt | fold,
            gsd_m=gsd_m,
            dataset="review",
            name=Path(scene.name).stem,
        )
        labelled = Labelled(scene, gpd.GeoDataFrame(geometry=truth), area, tuple(area.bounds), "review")
        grids.append(LabelledGrid(labelled, scene, grid, image))
        splits.append(Split(learnt, (fold,), (int((mine & held).sum()),)))
    if not grids:
        raise ReviewError("what is decided lies beside the scene; decide on objects that it shows")
    return grids, splits
