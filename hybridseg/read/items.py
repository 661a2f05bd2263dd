"""STAC Items, ItemCollections and searches of an API as sources: the imagery that their assets name."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urljoin
from xml.sax.saxutils import escape

from hybridseg.errors import SourceError, SourceUnavailable
from hybridseg.read.bands import RGB
from hybridseg.read.paths import display_name, problem
from hybridseg.read.raster import open_raster

SUFFIXES = (".json", ".geojson")
_SEARCHES = ("/search", "/items")
"""Ends of the paths under which an API searches all its collections, or one."""
_MOST = 1_000
"""Items of one search: a server that knows no end of pages must not hold us."""
_SERVED = ("http://", "https://")
_WANTED = (*RGB, "nir")
_NOT_IMAGERY = {"thumbnail", "overview", "metadata", "data-mask"}
_SHOWN = ("visual", "image", "data", "analytic")
"""Keys of assets that hold all bands, in order of preference, where the item does not say which bands they have."""
_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Item:
    """An item as it was found. Made by `items_of`.

    content: its JSON. source: path or URL where it was found.
    """

    content: Mapping[str, Any]
    source: str

    @property
    def day(self) -> date:
        """The day (UTC) of its datetime; of a span of time, the first.

        Raises:
            SourceError: it states none.
        """
        properties = self.content.get("properties")
        said = properties if isinstance(properties, Mapping) else {}
        text = said.get("datetime") or said.get("start_datetime")
        try:
            stated = datetime.fromisoformat(text) if isinstance(text, str) else None
            if stated is not None:
                return (stated.astimezone(UTC) if stated.tzinfo else stated).date()
        except (ValueError, OverflowError):
            pass
        wrong = "no datetime" if text is None else f"the datetime {display_name(str(text))!r}, which is no date"
        raise SourceError(f"{self._named} has {wrong}; give its rasters themselves, with --dates")

    @property
    def raster(self) -> str:
        """A path, a URL, or a VRT (as text) of assets that hold one band each.

        Its red, green and blue, and nir where it has it, are taken from assets of one band each; else from the asset
        with all of them; else from one that is called `visual`, `image`, `data` or `analytic`. Scale and offset that it
        states are not applied.

        Raises:
            SourceError: it has no such assets, or a band cannot be opened.
        """
        assets = {key: asset for key, asset in self.content["assets"].items() if _is_imagery(asset)}
        href = {key: _address(asset["href"], self.source) for key, asset in assets.items()}
        names = {key: _bands(asset) for key, asset in assets.items()}
        single = {names[key][0] if len(names[key]) == 1 else key: href[key] for key in reversed(assets)}
        single = {name: single[name] for name in _WANTED if name in single}
        if set(RGB) <= set(single):
            return _stacked(single)
        whole = [key for key in assets if set(RGB) <= set(names[key])]
        if whole:
            return href[max(whole, key=lambda key: len(names[key]))]
        if (called := next((key for key in _SHOWN if key in assets), None)) is not None:
            return href[called]
        raise SourceError(
            f"{self._named} has no assets red, green and blue, none with these bands, and none called "
            f"{', '.join(_SHOWN)}; its rasters are {', '.join(assets) or 'none'}: give the address of one of its files"
        )

    @property
    def _named(self) -> str:
        return f"item {display_name(str(self.content.get('id')))} of {display_name(self.source)}"


def _may_hold_items(source: str) -> bool:
    """Whether a path or URL may be of STAC: by its suffix, or because it is the address of a search."""
    path = source.partition("?")[0].lower()
    if source.startswith(_SERVED):
        return path.endswith((*SUFFIXES, *_SEARCHES))
    return path.endswith(SUFFIXES) and "://" not in source and Path(source).is_file()


def items_of(source: str) -> list[Item] | None:
    """Return the items that a source holds or finds.

    Args:
        source: path or URL (http, https) of an Item or ItemCollection, or of a search with its parameters, of which all
            pages are asked for (STAC API - Item Search, by GET).

    Returns:
        None where it is none of these.

    Raises:
        SourceError: there is no item, or too many.
        SourceUnavailable: the server does not give it.
    """
    if problem(source) is not None or not _may_hold_items(source):
        return None
    found = _load(source)
    if not isinstance(found, Mapping):
        return None
    items = _all_pages(found, source) if found.get("type") == "FeatureCollection" else [found]
    return [Item(item, source) for item in items] if all(_is_stac(item) for item in items) else None


def _all_pages(page: Mapping[str, Any], source: str) -> list[Any]:
    """The items of a collection, and those of the pages that follow it."""
    items, name = list[Any](), display_name(source)
    following: str | None = source
    while following is not None:
        features = page.get("features") if isinstance(page, Mapping) else None
        if not isinstance(features, list):
            raise SourceError(f"{name} gives pages that are no ItemCollections; give the address of an Item")
        items += features
        if len(items) > _MOST:
            raise SourceError(f"{name} finds more than {_MOST:,} items; narrow its bbox or datetime")
        following = _next(page, following) if features else None
        page = _load(following) if following else {}
    if not items:
        raise SourceError(f"{name} finds no items; widen its bbox or datetime, or name another collection")
    return items


def _next(page: Mapping[str, Any], source: str) -> str | None:
    """The address of the page that follows one."""
    links = page.get("links")
    for link in links if isinstance(links, list) else ():
        if isinstance(link, Mapping) and link.get("rel") == "next" and isinstance(link.get("href"), str):
            address = urljoin(source, link["href"])
            return address if address.startswith(_SERVED) else None
    return None


def _load(source: str) -> Any:
    try:
        if source.startswith(_SERVED):
            with urllib.request.urlopen(source, timeout=_TIMEOUT_S) as answer:
                return json.loads(answer.read())
        return json.loads(Path(source).read_text(encoding="utf-8"))
    except (OSError, HTTPException) as error:
        raise SourceUnavailable(f"{display_name(source)} cannot be read ({error}); check the address") from error
    except (ValueError, RecursionError):
        return None


def _is_stac(item: Any) -> bool:
    return isinstance(item, Mapping) and "stac_version" in item and isinstance(item.get("assets"), Mapping)


def _is_imagery(asset: Any) -> bool:
    if not isinstance(asset, Mapping) or not isinstance(asset.get("href"), str):
        return False
    kind = str(asset.get("type") or "image/")
    return kind.startswith("image/") and not any(role in str(asset.get("roles")) for role in _NOT_IMAGERY)


def _bands(asset: Mapping[str, Any]) -> list[str]:
    """Common names of an asset's bands, by STAC 1.1 or the `eo` extension before it."""
    bands = asset.get("bands") or asset.get("eo:bands")
    bands = [band for band in bands if isinstance(band, Mapping)] if isinstance(bands, list) else []
    return [str(band.get("eo:common_name") or band.get("common_name") or band.get("name")) for band in bands]


def _address(href: str, source: str) -> str:
    """An asset's address: as it is, or relative to the item's."""
    if "://" in href or href.startswith("/"):
        return href.removeprefix("file://")
    return urljoin(source, href) if "://" in source else str(Path(source).parent / href)


def _stacked(single: Mapping[str, str]) -> str:
    """A VRT of rasters of one band each, on the grid of the finest; the others are seen in its pixels."""
    opened = {name: open_raster(path) for name, path in single.items()}
    try:
        grid = min(opened.values(), key=lambda raster: abs(raster.res[0]))
        bands, size = [], f'xSize="{grid.width}" ySize="{grid.height}"'
        for number, (name, raster) in enumerate(opened.items(), 1):
            if raster.crs != grid.crs or any(
                abs(one - other) > abs(raster.res[0]) for one, other in zip(raster.bounds, grid.bounds, strict=True)
            ):
                raise SourceError(f"asset {name} ({display_name(single[name])}) covers other ground than the first one")
            nodata = "" if raster.nodata is None else f"<NoDataValue>{raster.nodata}</NoDataValue>"
            bands.append(
                f'<VRTRasterBand dataType="{_TYPES.get(raster.dtypes[0], "Float32")}" band="{number}">'
                f"<Description>{name}</Description>{nodata}<SimpleSource>"
                f'<SourceFilename relativeToVRT="0">{escape(raster.files[0])}</SourceFilename>'
                f'<SourceBand>1</SourceBand><SrcRect xOff="0" yOff="0" xSize="{raster.width}" ySize="{raster.height}"/>'
                f'<DstRect xOff="0" yOff="0" {size}/></SimpleSource></VRTRasterBand>'
            )
        transform = ", ".join(map(repr, grid.transform.to_gdal()))
        crs = "" if grid.crs is None else f"<SRS>{escape(grid.crs.to_wkt())}</SRS>"
        return (
            f'<VRTDataset rasterXSize="{grid.width}" rasterYSize="{grid.height}">{crs}'
            f"<GeoTransform>{transform}</GeoTransform>{''.join(bands)}</VRTDataset>"
        )
    finally:
        for raster in opened.values():
            raster.close()


_TYPES = {"uint8": "Byte", "uint16": "UInt16", "int16": "Int16", "uint32": "UInt32", "int32": "Int32"}
"""Names of GDAL's types by numpy's."""
