"""Check the arguments of finetune before anything is learnt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hybridseg import nn
from hybridseg.errors import ThemeError
from hybridseg.labels.labelled import LabelledGrid
from hybridseg.labels.split import Split
from hybridseg.read import part
from hybridseg.read.scene import Scene
from hybridseg.theme import Theme

ALLOWED: Mapping[str, tuple[Callable[[float], bool], str]] = {
    "validation": (lambda v: 0 < v < 1, "a share between 0 and 1, e.g. 0.25"),
    "steps": (lambda v: v >= 1, "1 or more"),
    "patience": (lambda v: v >= 0, "0 or more"),
    "batch": (lambda v: v >= 1, "1 or more"),
    "free": (lambda v: v >= 0, "0 or more"),
    "rate": (lambda v: 0 < v <= 1, "more than 0 and at most 1, e.g. 1e-3"),
    "seed": (lambda v: 0 <= v < 2**32, "0 to 4294967295"),
}
"""Range of each number, as a test and in words."""


def check_numbers(**given: float | None) -> None:
    """Refuse numbers that make no sense; None is left to the default.

    Raises:
        ThemeError: one is not allowed.
    """
    for name, value in given.items():
        allowed, words = ALLOWED[name]
        if value is not None and not allowed(value):
            raise ThemeError(f"--{name.replace('_', '-')} is {value:g}; give {words}")


def check_themes(themes: Sequence[Theme]) -> None:
    """Refuse themes that share a class, or have no classifier.

    Raises:
        ThemeError: one of these is the case.
    """
    labels = [t.label for t in themes]
    if len(set(labels)) < len(labels):
        raise ThemeError(f"themes {', '.join(t.name for t in themes)} share a class; give each class one theme")
    for one in themes:
        if not one.objects.choices():
            raise ThemeError(
                f"theme {one.name} finds objects by {one.objects.kind}, which learns nothing; give another"
            )


def check_gsd(gsd: float | None, sources: Sequence[Scene], backbone: str) -> None:
    """Refuse to work in pixels that nobody can mean, or in others than a source's own with an index.

    Raises:
        HybridsegError: one of these is the case.
    """
    if gsd is None:
        return
    if backbone.startswith(nn.indices.PREFIX):
        raise ThemeError(f"--gsd {gsd:g} came with {backbone}, which looks at a scene's own pixels; leave it out")
    for source in sources:
        part.check_gsd("--gsd", gsd, source)


def check_free(free: int, head: str, trunk: Any) -> None:
    """Refuse to free stages that there are not, or with a head that trains none.

    Raises:
        ThemeError: one of these is the case.
    """
    if trunk.pointwise and head != "linear":
        raise ThemeError(f"an index is one number a pixel, of which --head {head} learns nothing; give --head linear")
    if free and head == "linear":
        raise ThemeError(f"--free {free} trains the backbone, which --head linear does not; give --head conv too")
    stages = len(nn.backbones.base.stages(trunk))
    if free > stages:
        raise ThemeError(f"--free is {free}, but the backbone has {stages} stages; give as many or fewer")


def check_refiners(themes: Sequence[Theme], refiner: str | None, device: str) -> None:
    """Load what will refine once, so that a wrong name is not found after the training.

    Raises:
        WeightsError: it cannot be had.
    """
    for name in {refiner or theme.refiner for theme in themes} - {"none"}:
        nn.sam2.official.load_refiner(name, device, runtime="auto")  # as the search will open it


def check_ground(grids: Sequence[LabelledGrid], splits: Sequence[Split], names: Sequence[str]) -> None:
    """Refuse classes of which the training ground shows only one side.

    Raises:
        ThemeError: one has no object there, or no known ground beside its objects.
    """
    for name in names:
        if not any(grid.image.objects[name].any() for grid in grids):
            raise ThemeError(f"no label is a {name}; give labels of every class, or leave its theme out")
        pairs = [(g.image.objects[name] > 0, s.train) for g, s in zip(grids, splits, strict=True)]
        if not any((inside & train).any() for inside, train in pairs):
            raise ThemeError(
                f"all objects of {name} lie in or near the validation blocks; label more of them elsewhere"
            )
        if not any((~inside & train).any() for inside, train in pairs):
            raise ThemeError(
                f"{name} has no known ground beside its objects to learn from; draw all objects of an area and give "
                "that area, larger than they are, with --complete-within"
            )
