"""A STAC Item beside a result, so that catalogues can list it. Needs the extra `stac` (pystac)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from shapely import affinity

from hybridseg.errors import OutputError
from hybridseg.files import replacing
from hybridseg.write.lineage import COLUMNS, abstract, licences, title
from hybridseg.write.result import ITEM, companion

_PROCESSING = "https://stac-extensions.github.io/processing/v1.2.0/schema.json"
_TABLE = "https://stac-extensions.github.io/table/v1.2.0/schema.json"
_MEDIA = {
    ".gpkg": "application/geopackage+sqlite3",
    ".parquet": "application/vnd.apache.parquet",
    ".fgb": "application/vnd.flatgeobuf",
    ".geojson": "application/geo+json",
    ".tif": "image/tiff; application=geotiff; profile=cloud-optimized",
    ".tiff": "image/tiff; application=geotiff; profile=cloud-optimized",
}


def item_path(path: Path | str) -> Path:
    """Return where the item of a result stands.

    Raises:
        OutputError: it cannot be written there, or pystac is not installed.
    """
    if find_spec("pystac") is None:
        raise OutputError("a STAC Item needs pystac: install hybridseg[stac]")
    return companion(path, ITEM)


@contextmanager
def item_beside(
    path: Path | str, geobox: GeoBox, classes: Sequence[str], columns: Sequence[str], provenance: Mapping[str, Any]
) -> Iterator[None]:
    """Write the STAC Item of a result beside it, as `<name>.stac.json`, whose asset is the result.

    It takes its place when the block ends well, in which the result is written. The item's time is that of the
    run, as rasters rarely say when the imagery was taken.

    Args:
        path: the result.
        geobox: the scene's grid, whose outline is the item's geometry.
        classes: what was looked for.
        columns: of the result; those whose meaning is known are listed.
        provenance: see `run.provenance.Provenance`.

    Raises:
        OutputError: it cannot be written there.
    """
    import pystac

    path, target = Path(path), item_path(path)
    outline, bbox = _outline(geobox)
    made = provenance.get("created")
    licence = licences(provenance)
    item = pystac.Item(
        id=path.stem,
        geometry=outline,
        bbox=bbox,
        datetime=datetime.fromisoformat(made) if made else datetime.now(UTC),
        properties={
            "title": title(provenance, classes, "features"),
            "description": abstract(provenance),
            "license": licence[0] if len(licence) == 1 else "other",
            "processing:software": {"hybridseg": provenance.get("hybridseg", "unknown")},
            "processing:lineage": abstract(provenance),
        },
        stac_extensions=[_PROCESSING, _TABLE],
    )
    meanings = [{"name": name, "description": COLUMNS[name]} for name in columns if name in COLUMNS]
    asset = pystac.Asset(
        href=f"./{path.name}",
        title=path.name,
        media_type=_MEDIA.get(path.suffix.lower()),
        roles=["data"],
        extra_fields={"table:columns": meanings} if meanings else {},
    )
    item.add_asset("data", asset)
    item.set_self_href(str(target))
    item.make_asset_hrefs_relative()
    with replacing(target) as beside:
        document = item.to_dict(include_self_link=False, transform_hrefs=False)
        beside.write_text(json.dumps(document, indent=2), encoding="utf-8")
        yield


def _outline(geobox: GeoBox) -> tuple[dict[str, Any], list[float]]:
    """The outline of a grid in WGS84 and its box, as RFC 7946 has them: cut at the antimeridian, west before east."""
    ground = geobox.extent.geom
    dense = shapely.segmentize(ground.exterior, ground.length / 80)  # straight lines of the CRS are none in WGS84
    to_lonlat = Transformer.from_crs(str(geobox.crs), 4326, always_xy=True)
    lon, lat = to_lonlat.transform(*shapely.get_coordinates(dense).T)
    whole = shapely.Polygon(np.column_stack([np.unwrap(lon, period=360), lat]))
    worlds = [(turn, shapely.box(turn - 180, -90, turn + 180, 90)) for turn in (-360, 0, 360)]
    cut = [affinity.translate(whole & world, -turn) for turn, world in worlds if (whole & world).area]
    parts = shapely.bounds(cut)
    west, south, east, north = parts[:, 0].min(), parts[:, 1].min(), parts[:, 2].max(), parts[:, 3].max()
    if len(cut) > 1:
        west, east = parts[parts[:, 0] > 0, 0].min(), parts[parts[:, 2] < 0, 2].max()
    outline = cut[0] if len(cut) == 1 else shapely.MultiPolygon(cut)
    return json.loads(shapely.to_geojson(outline)), [float(value) for value in (west, south, east, north)]
