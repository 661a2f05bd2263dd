"""Bands by name: what a raster says of them, what a user says, and where a scene has those that somebody looks for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from rasterio.enums import ColorInterp

from hybridseg.errors import BandsMissing
from hybridseg.read.scene import Scene

RGB = ("red", "green", "blue")
_INTERPRETED = {
    ColorInterp.red: "red", ColorInterp.green: "green", ColorInterp.blue: "blue", ColorInterp.nir: "nir",
    ColorInterp.rededge: "rededge", ColorInterp.coastal: "coastal", ColorInterp.pan: "pan",
}  # fmt: skip
_SENTINEL_2 = {
    "01": "coastal", "02": "blue", "03": "green", "04": "red", "05": "rededge", "06": "rededge", "07": "rededge",
    "08": "nir", "8A": "nir", "11": "swir16", "12": "swir22",
}  # fmt: skip
"""Band numbers of Sentinel-2 as its files write them. 02 to 04 are the same in HLS and on Landsat 8 and 9."""
_SHARED = {"02", "03", "04"}
_SENTINEL_ONLY = {"08", "8A", "12"}
"""Numbers, as written, that no other satellite's files have beside them: Landsat's pan is B8, and it ends with B11."""
_NUMBERED = re.compile(r"(?i)b(?:and)?[ _]?(\d{1,2}a?)\b")
_LONGER = {"infrared", "swir", "shortwave", "thermal", "mir", "tir"}
"""Words of bands beyond near infrared."""


def band_names(descriptions: Sequence[str | None], interp: Sequence[ColorInterp], count: int) -> tuple[str, ...]:
    """Return the common name of each band (of STAC's `eo` extension: red, green, blue, nir, ...), "" where unknown.

    Descriptions come first, as somebody wrote them: words ("near infrared", "NIR", "Red"), else numbers of Sentinel-2
    (B02, B8A; B2 only where 8A or 12 beside it shows that it is no Landsat). Colour interpretation second, as GDAL sets
    red, green and blue on any 3 bands of bytes: it names what descriptions do not, with names that these leave.

    Args:
        descriptions: text of each band, or None; may be empty.
        interp: colour interpretation of each band; may be empty.
        count: number of bands.

    Example:
        >>> band_names(["Blue", "Green", "Red", "Near Infrared"], [], 4)
        ('blue', 'green', 'red', 'nir')
        >>> band_names(["B02", "B03", "B04", "B08"], [], 4)
        ('blue', 'green', 'red', 'nir')
    """
    texts = [text or "" for text in descriptions] or [""] * count
    named = [_word(text) for text in texts]
    if not any(named):
        named = _numbered(texts)
    assumed = [_INTERPRETED.get(meaning, "") for meaning in interp] or [""] * count
    return tuple(name or ("" if other in named else other) for name, other in zip(named, assumed, strict=True))


def rgb_of(names: Sequence[str]) -> tuple[int, int, int] | None:
    """Return the numbers of red, green and blue, where exactly one band is called each."""
    if any(names.count(colour) != 1 for colour in RGB):
        return None
    red, green, blue = (names.index(colour) + 1 for colour in RGB)
    return red, green, blue


def _word(text: str) -> str:
    """The common name that a description says in words."""
    words = set(re.findall("[a-z]+", text.lower()))
    if "rededge" in words or {"red", "edge"} <= words:
        return "rededge"
    if words & {"nir", "nearinfrared"} or ("near" in words and words & {"infrared", "ir"}):
        return "nir"
    if short := re.search(r"(?i)\bswir[ _-]?(?:(1)6?|(2)2?)\b", text):
        return "swir16" if short[1] else "swir22"
    if words & _LONGER:
        return ""
    found = [name for name in (*RGB, "coastal", "yellow") if name in words]
    return found[0] if len(found) == 1 else ("pan" if words & {"pan", "panchromatic"} else "")


def _numbered(texts: Sequence[str]) -> list[str]:
    """The common names that numbers of Sentinel-2 say; "" where the numbers may be another satellite's."""
    found = [match[1].upper() if (match := _NUMBERED.match(text)) else "" for text in texts]
    if _SENTINEL_ONLY & set(found):
        return [_SENTINEL_2.get(number.zfill(2), "") for number in found]
    return [_SENTINEL_2[number] if number in _SHARED else "" for number in found]


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
