"""Results to files and back: polygons, or lines with their nodes; the suffix chooses the format."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyarrow as pa
import shapely
from pyogrio.errors import DataLayerError, DataSourceError
from pyproj import CRS

from hybridseg.errors import OutputError
from hybridseg.files import check_output, replacing
from hybridseg.types import FEATURE_COLUMNS
from hybridseg.write.formats import DECIMALS, FORMATS, Format, Layer, check_rows
from hybridseg.write.geopackage import RESERVED
from hybridseg.write.lineage import COLUMNS, WRITTEN, qgis_metadata, title
from hybridseg.write.style import Kind, qml

ERRORS = (DataSourceError, DataLayerError, sqlite3.Error, pa.ArrowException)
"""What the libraries raise that write the files."""


_TEXTS = ("id", "class", "origin")
_NUMBERS = ("score", "score_raw", "iou_pred", "stability", "agreement", "area_m2")
_DTYPES: dict[str, type] = {**dict.fromkeys(_TEXTS, str), **dict.fromkeys(_NUMBERS, float)}


def write_result(
    features: gpd.GeoDataFrame,
    path: Path | str,
    provenance: Mapping[str, Any],
    nodes: gpd.GeoDataFrame | None = None,
    traced: gpd.GeoDataFrame | None = None,
) -> Path:
    """Write a result to one file, in the format of its suffix; the file appears whole or not at all.

    Args:
        features: polygons with `FEATURE_COLUMNS` and perhaps others, or lines with any columns; may be empty. They are
            written in their own CRS, but GeoJSON is WGS84 always.
        path: ends in one of `FORMATS`.
        provenance: JSON values, see `run.provenance.Provenance`.
        nodes: where lines start and end. A GeoPackage gets the layers `lines` and `nodes`; formats of one layer leave
            the nodes out. Otherwise the layer has the file's name.
        traced: polygons for a second layer, NAME_traced; only for a format of several layers.

    Raises:
        OutputError: the file cannot be written there, or not in this CRS.
    """
    path = check_output(path, FORMATS)
    format_ = FORMATS[path.suffix.lower()]
    features = _tidy(features)
    name = _layer_name(path)
    parts: list[tuple[str, Kind, gpd.GeoDataFrame]] = [
        (name, "polygons" if "origin" in features else "lines", features)
    ]
    if nodes is not None and format_.many:
        parts = [("lines", "lines", features), ("nodes", "nodes", _tidy(nodes))]
    if traced is not None:
        parts.append((f"{name}_traced", "polygons", _tidy(traced)))
    classes = sorted(features["class"].unique()) if "class" in features else []
    layers = [
        Layer(
            name=layer,
            frame=_placed(frame, path),
            kind=kind,
            title=title(provenance, classes, kind) + (", as traced" if layer == f"{name}_traced" else ""),
        )
        for layer, kind, frame in parts
    ]

    first = layers[0]
    crs = CRS.from_epsg(4326) if path.suffix.lower() == ".geojson" else first.frame.crs
    metadata = qgis_metadata(provenance, first.title, crs.to_wkt(), list(first.frame))
    with for_qgis(path, metadata, qml(classes, first.kind)), _checked(layers, path) as beside:
        format_.write(layers, beside, provenance)
    return path


def write_layers(layers: Sequence[Layer], path: Path | str, provenance: Mapping[str, Any]) -> Path:
    """Write layers of any columns to one GeoPackage; the file appears whole or not at all.

    Raises:
        OutputError: the file cannot be written there.
    """
    path = check_output(path, [".gpkg"])
    with _checked(layers, path) as beside:
        FORMATS[".gpkg"].write(layers, beside, provenance)
    return path


@contextmanager
def _checked(layers: Sequence[Layer], path: Path) -> Iterator[Path]:
    """A name to write layers to; takes the place of `path` when they can all be read back."""

    def verify(beside: Path) -> None:
        for layer in layers:
            check_rows(layer, beside)

    with replacing(path, verify, ERRORS) as beside:
        yield beside


def read_result(path: Path | str, layer: str | None = None) -> gpd.GeoDataFrame:
    """Return a layer of a file that `write_result` made, in the file's CRS and order.

    Args:
        path: the file.
        layer: name; default: the first with geometries.

    Raises:
        OutputError: no such file, or not one of `FORMATS`.
    """
    path, format_ = _existing(path)
    features = format_.read(path, layer)
    if features.empty and len(features.columns) == 1:  # an empty GeoJSON has no columns
        features = features.reindex(columns=list(FEATURE_COLUMNS))
    return features.astype({name: dtype for name, dtype in _DTYPES.items() if name in features})


def read_provenance(path: Path | str) -> dict[str, Any] | None:
    """Return what `write_result` was told of the result's origin; None where the file does not say.

    Raises:
        OutputError: no such file, or not one of `FORMATS`.
    """
    path, format_ = _existing(path)
    text = format_.provenance(path)
    return None if text is None else json.loads(text)


def _tidy(frame: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Columns in our order and of one type each, whatever the rows (all may be NaN, or there may be none)."""
    if frame.crs is None:
        raise ValueError("features have no CRS")
    polygons = frame.geom_type.isin(["Polygon", "MultiPolygon"]).any() or "origin" in frame
    if polygons and (missing := [name for name in FEATURE_COLUMNS if name not in frame]):
        raise ValueError(f"features lack the columns {missing}")
    if frame.geometry.name != "geometry":
        frame = frame.rename_geometry("geometry")
    ours = [name for name in COLUMNS if name in frame]
    others = [name for name in frame.columns if name not in {*ours, "geometry"}]
    frame = frame[[*ours, "geometry", *others]]
    frame.attrs = {}  # whatever the caller keeps there is not for the file
    return frame.astype({name: dtype for name, dtype in _DTYPES.items() if name in frame})


def _placed(frame: gpd.GeoDataFrame, path: Path) -> gpd.GeoDataFrame:
    """The rows as a file of this name holds them; refused where its CRS has no finite place for them."""
    placed = frame.to_crs(4326) if path.suffix.lower() == ".geojson" else frame
    if not frame.geometry.is_empty.all() and not np.isfinite(placed.total_bounds).all():
        raise OutputError(
            f"{path} cannot be written in {placed.crs.name!r}: the result lies where that CRS is not defined; "
            "choose another with --crs"
        )
    return _rounded(frame) if path.suffix.lower() == ".geojson" and frame.crs.is_geographic else frame


def _rounded(rows: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """The rows on the decimals of GeoJSON, without slivers, which GDAL's rounding leaves as lines in a collection."""
    exact = rows.geometry.to_numpy()
    rounded = shapely.set_precision(exact, 10.0**-DECIMALS)
    return rows.set_geometry(np.where(shapely.is_empty(rounded), exact, rounded), crs=rows.crs)


def _existing(path: Path | str) -> tuple[Path, Format]:
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise OutputError(f"{path} is no features file: expected one of {', '.join(sorted(FORMATS))}")
    if not path.is_file():
        raise OutputError(f"{path} does not exist: give a features file that hybridseg wrote")
    return path, FORMATS[path.suffix.lower()]


def _layer_name(path: Path) -> str:
    """The file's stem, unless GeoPackage keeps the name for itself."""
    name = path.stem
    return f"features_{name}" if name.lower().startswith(RESERVED) else name


QMD, QML, ITEM = ".qmd", ".qml", ".stac.json"
_MARKS = {QMD: WRITTEN, ITEM: '"hybridseg"'}
"""What stands in a companion that hybridseg wrote, even when QGIS has saved it again."""
_STYLE_MARK = f"<!-- {WRITTEN} -->\n"
"""The end of a style that hybridseg wrote; QGIS leaves it out when a person saves another."""


@contextmanager
def for_qgis(path: Path, metadata: str, style: str | None = None) -> Iterator[None]:
    """Write what QGIS reads beside a result, `QMD` and `QML`; they take their places when the block ends well.

    A GeoPackage holds both and has no files beside it. A style that a person saved stays.

    Args:
        path: the result, which the block writes.
        metadata: in the XML of QGIS.
        style: QML; None for none.

    Raises:
        OutputError: as of `check_for_qgis`.
    """
    targets = check_for_qgis(path)
    with ExitStack() as stack:
        for suffix, text in ((QMD, metadata), (QML, style)):
            if suffix in targets and text is not None:
                end = _STYLE_MARK if suffix == QML else ""
                stack.enter_context(replacing(targets[suffix])).write_text(text + end, encoding="utf-8")
        yield


def check_for_qgis(path: Path | str) -> dict[str, Path]:
    """Return the files that go with a result for QGIS, by suffix, once it is certain that they can be written.

    Raises:
        OutputError: as of `companion`.
    """
    path = Path(path)
    format_ = FORMATS.get(path.suffix.lower())
    if format_ is not None and format_.many:
        return {}
    style = check_output(path.with_suffix(QML), [QML])
    own = not style.exists() or style.read_bytes().endswith(_STYLE_MARK.encode())
    return {QMD: companion(path, QMD)} | ({QML: style} if own else {})


def companion(path: Path | str, suffix: str) -> Path:
    """Return one file beside a result, `QMD` or `ITEM`, once it is certain that it can be written.

    Raises:
        OutputError: it cannot be, or is of somebody else: a scene may have a .qmd of its own.
    """
    path = Path(path)
    beside = check_output(path.with_name(path.stem + suffix), [suffix, Path(suffix).suffix])
    try:
        ours = not beside.exists() or _MARKS[suffix] in beside.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise OutputError(f"{beside}, which goes with {path.name}, cannot be read ({error.strerror})") from error
    if not ours:
        raise OutputError(
            f"{beside} was not written by hybridseg and would be lost, as it has the name of {path.name}: "
            "choose another name or move it"
        )
    return beside
