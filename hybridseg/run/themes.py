"""The themes that a user asked for, by name, by a model's folder, or by what the bands of a scene allow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from skimage.filters import threshold_otsu

from hybridseg import nn
from hybridseg.errors import ThemeError
from hybridseg.read.bands import find_bands
from hybridseg.read.scene import Scene
from hybridseg.run.request import words
from hybridseg.theme import SETTINGS, Theme, load_theme

PARTS = ("box", "points", "hint")


def resolve_themes(
    theme: str | Path | Sequence[str] | None,
    model: str | Path | None = None,
    parts: str | Sequence[str] | None = None,
    refiner: str | None = None,
    shape: str | None = None,
    scene: Scene | None = None,
) -> list[Theme]:
    """Return the themes asked for, with the classifier of `model`, the prompts of `parts`, and the refiner, if given.

    Args:
        theme: names.
        model: classifier of all; default: each theme's own.
        parts: of prompts.
        refiner: of all.
        shape: how outlines of all are drawn, see `Theme.shaped`.
        scene: whose bands may call for a theme's `by_bands`; None: they do not count.

    Raises:
        ThemeError: unknown, doubled or empty names; the model holds no theme, or one whose refiner would be fetched.
        WeightsError: no such model.
    """
    names = words(theme)
    if not all(names) or len(set(names)) < len(names):
        raise ThemeError(f"theme is {','.join(names)!r}; give names with commas between, each once")
    if model is None:
        themes = [load_theme(name) for name in names or ["buildings"]]
        themes = themes if scene is None else [for_bands(one, scene) for one in themes]
    elif names:
        themes = [load_theme(name).model_copy(update={"classifier": str(model)}) for name in names]
    elif str(model).startswith(nn.indices.PREFIX):
        raise ThemeError(f"--model {model} is no folder that holds a theme; give --theme, too, e.g. --theme water")
    else:
        themes = themes_in(model)
        _check_fetches(themes, model, refiner)
    if len({t.name for t in themes}) < len(themes):
        raise ThemeError(f"themes {', '.join(t.name for t in themes)} share a name; give each a `name:` of its own")
    if refiner is not None:
        themes = [t.model_copy(update={"refiner": str(refiner)}) for t in themes]
    if shape is not None:
        themes = [t.shaped(shape) for t in themes]
    if parts is None:
        return themes
    chosen = words(parts)
    if not chosen or set(chosen) - set(PARTS):
        raise ThemeError(f"prompts are {','.join(chosen)!r}; give some of {','.join(PARTS)}")
    return [t.with_prompts(parts=frozenset(chosen)) for t in themes]


def themes_in(model: str | Path) -> list[Theme]:
    """Return the themes of a model folder (made by `finetune`), which look with its own classifier.

    Args:
        model: path of the folder, or `hf:OWNER/NAME` on the Hugging Face hub.

    Raises:
        WeightsError: no such model.
        ThemeError: it holds no theme.
    """
    folder = nn.cards.model_folder(model)
    paths = sorted(folder.glob("theme*.yaml"))
    if not paths:
        raise ThemeError(f"{folder} holds no theme.yaml; give --theme with `classifier: {folder}` instead of --model")
    # the folder may have been moved or copied since: what it says of its own place does not count
    return [load_theme(path).model_copy(update={"classifier": str(folder)}) for path in paths]


def _check_fetches(themes: Sequence[Theme], model: str | Path, asked: str | None) -> None:
    """Refuse a refiner that would have to be fetched, and that a model's folder names, not the user (`asked`)."""
    if asked is not None:
        return
    for name in (one.refiner for one in themes):
        if nn.cards.source_of(name) is not None and not nn.sam2.official.at_hand(name):
            raise ThemeError(
                f"the theme in {model} names refiner {name}, which would be fetched; if you want that, give --refiner "
                f"{name}, else another, e.g. --refiner sam2-lite"
            )


def files_named(theme: str | Path | Sequence[str] | None, themes: Sequence[Theme]) -> list[object]:
    """Return the files of themes and networks that a run reads, as `check_not_input` takes them.

    Args:
        theme: as it was asked for.
        themes: what that means.
    """
    files = [word for word in words(theme) if word.endswith(SETTINGS)]
    return [*files, *(network for one in themes for network in (one.classifier, one.refiner))]


def by_bands_note(named: Theme, used: Theme) -> str:
    """Return what to tell of a theme that the scene's bands called for; nothing where it is the one that was named."""
    if used.name == named.name:
        return ""
    return (
        f"{used.label} by {used.classifier} (theme {used.name}), since the scene has its bands; --by-bands false finds "
        f"it by {named.classifier}"
    )


NEAR = 0.05
"""Values of an index so close to its centre belong to neither side."""
UNCLEAR = 0.07
"""Largest share of a scene's pixels near the centre where the index parts it. Of ten dates of one prairie in 8 bits the
eight on which the split was right had up to 0.066, the two on which fields were taken for water 0.106 and 0.127."""


def for_bands(theme: Theme, scene: Scene) -> Theme:
    """Return the first theme of `by_bands` whose index has its bands in the scene, or else the theme itself.

    8 bits hold no reflectance: brightness and stretch move the centre. There it lies between the two groups that the
    scene's own values fall into by Otsu's method (1979), and the
    index is left alone where they do not part clearly, or below its usual centre.

    Raises:
        ThemeError: such a theme is of another class.
        WeightsError: its classifier is no index.
    """
    for name in theme.by_bands:
        other = load_theme(name)
        if other.label != theme.label:
            raise ThemeError(
                f"theme {theme.name} names {name} in by_bands, which looks for {other.label}; give its own"
            )
        index = nn.indices.parse_index(other.classifier)
        numbers = find_bands(scene, index.bands)
        if numbers is None:
            continue
        raw = scene.raw(numbers)
        if raw.dtype.itemsize > 1:
            return other
        centre = _centre(index, raw)
        if centre is not None and centre >= index.centre:
            scaled = f"{other.classifier.partition('@')[0]}@{centre:.2f},{index.steepness:g}"
            return other.model_copy(update={"classifier": scaled})
    return theme


def _centre(index: nn.indices.Index, raw: Scene) -> float | None:
    """Where a scene's index is to be cut; None where its values do not part clearly."""
    pixels, valid = raw.sample()
    with np.errstate(divide="ignore", invalid="ignore"):
        values = index(dict(zip(index.bands, pixels[:, valid].astype(np.float64), strict=True)))
    values = values[np.isfinite(values)]
    if not values.size or np.ptp(values) < 4 * NEAR:
        return None
    low = values <= threshold_otsu(values)
    centre = float(values[low].mean() + values[~low].mean()) / 2
    return centre if np.mean(np.abs(values - centre) < NEAR) <= UNCLEAR else None
