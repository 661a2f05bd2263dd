"""Results with the columns of others, as GeoParquet in WGS84: Overture Maps for buildings, fiboa for fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd

from hybridseg.errors import OutputError
from hybridseg.files import check_output, replacing
from hybridseg.write.fiboa import as_collection, to_fiboa
from hybridseg.write.formats import FORMATS, Layer, check_rows
from hybridseg.write.lineage import title
from hybridseg.write.overture import to_overture
from hybridseg.write.result import ERRORS

SUFFIX = ".parquet"


@dataclass(frozen=True)
class Schema:
    """Columns that others have agreed on.

    label: class of the features that they are for; several: their name in messages.
    columns: makes the table, from features and provenance.
    finish: what the written file needs beyond GeoParquet, from its path and the provenance.
    """

    label: str
    several: str
    columns: Callable[[gpd.GeoDataFrame, Mapping[str, Any]], gpd.GeoDataFrame]
    finish: Callable[[Path, Mapping[str, Any]], None] = lambda path, provenance: None


SCHEMAS = {
    "overture": Schema("building", "buildings", to_overture),
    "fiboa": Schema("field", "fields", to_fiboa, as_collection),
}
"""By the name that `--schema` has for it."""


def check_schema(schema: str, path: Path | str | None, classes: list[str]) -> None:
    """Check that a result can be written so: to be asked before hours of work.

    Raises:
        OutputError: it is no GeoParquet, or of other classes.
    """
    if path is None or Path(path).suffix.lower() != SUFFIX:
        raise OutputError(f"--schema {schema} is GeoParquet; give an out of .parquet")
    check_output(path, [SUFFIX])
    if classes != [SCHEMAS[schema].label]:
        raise OutputError(
            f"--schema {schema} is for {SCHEMAS[schema].several}, not for {', '.join(classes)}; leave it out"
        )


def write_schema(schema: str, features: gpd.GeoDataFrame, path: Path | str, provenance: Mapping[str, Any]) -> Path:
    """Write features with the columns of a schema; the file appears whole or not at all.

    Raises:
        OutputError: it cannot be written there.
    """
    path, format_, own = Path(path), FORMATS[SUFFIX], SCHEMAS[schema]
    name = title(provenance, [own.label], "polygons")
    layer = Layer(own.label, own.columns(features, provenance), "polygons", name)

    def verify(beside: Path) -> None:
        check_rows(layer, beside)

    with replacing(path, verify, ERRORS) as beside:
        format_.write([layer], beside, provenance)
        own.finish(beside, provenance)
    return path
