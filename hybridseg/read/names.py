"""What the bands of a raster are: from their descriptions and their colour interpretation to the common names."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rasterio.enums import ColorInterp

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
