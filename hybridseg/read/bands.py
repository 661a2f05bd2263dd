"""Bands by name: what a user says of them, and where a scene has those that somebody looks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from hybridseg.errors import BandsMissing
from hybridseg.read.names import RGB
from hybridseg.read.scene import Scene

Bands: TypeAlias = Sequence[int] | Mapping[str, int] | None
"""What a user says of a raster's bands: numbers of those to look at, or names with numbers, or nothing."""


def numbers_of(bands: Bands) -> tuple[int, ...] | None:
    """Return the numbers of the bands to look at, as far as the user gave them: red, green and blue of names."""
    if isinstance(bands, Mapping):
        return tuple(bands[name] for name in RGB) if all(name in bands for name in RGB) else None
    return None if bands is None else tuple(bands)


def given_names(bands: Bands) -> Mapping[str, int]:
    """Return the names that the user gave, with numbers from 1."""
    return bands if isinstance(bands, Mapping) else {}


def renamed(names: Sequence[str], bands: Bands) -> tuple[str, ...]:
    """Return the names of all bands, those that the user gave instead of what the raster says."""
    given = given_names(bands)
    called = {number: name for name, number in given.items()}
    return tuple(called.get(i, "" if own in given else own) for i, own in enumerate(names, 1))


def find_bands(scene: Scene, wanted: Sequence[int | str]) -> tuple[int, ...] | None:
    """Return the 1-based numbers of bands.

    Args:
        scene: has the bands.
        wanted: numbers, which are taken as they are, or names; `band4` is the fourth. None where the scene has no band
            of a name.
    """
    own = {name: i for i, name in reversed([*enumerate(scene.band_names, 1)]) if name}
    known = {**{f"band{i}": i for i in scene.data_bands}, **own}
    found = [known.get(band, 0) if isinstance(band, str) else band for band in wanted]
    return tuple(found) if all(found) else None


def check_bands(scene: Scene, wanted: Sequence[int | str], who: str) -> tuple[int, ...]:
    """Return the numbers of bands.

    Args:
        scene: has the bands.
        wanted: as of `find_bands`.
        who: wants them, for the message.

    Raises:
        BandsMissing: the scene lacks one, or does not say which it is.
    """
    found = find_bands(scene, wanted)
    if found is not None:
        return found
    own = ", ".join(f"{i} {name or 'unnamed'}" for i, name in enumerate(scene.band_names, 1) if i in scene.data_bands)
    raise BandsMissing(
        f"{who} looks at {', '.join(map(str, wanted))}; the bands of {scene.name} are {own}: say which they are, as in "
        "--bands red=1,green=2,blue=3,nir=4"
    )
