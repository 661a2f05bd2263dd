"""What a review begins with: objects from a layer of polygons, and back; its theme, its origin, its file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from glob import has_magic
from itertools import chain
from itertools import count as count_from
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
import yaml
from pydantic import ValidationError

from hybridseg.errors import LayerError, ReviewError, ThemeError
from hybridseg.read.vectors import id_column, read_layer
from hybridseg.reviewing import geopackage
from hybridseg.reviewing.objects import Object
from hybridseg.shape.measure import area_m2
from hybridseg.theme import Theme
from hybridseg.types import FEATURE_COLUMNS
from hybridseg.write.formats import FORMATS
from hybridseg.write.result import read_provenance


def objects_of(result: Path | str | gpd.GeoDataFrame, crs: Any, label: str) -> list[Object]:
    """Return the objects of an extraction, or of any layer of polygons, for a review.

    Args:
        result: a map that `extract` wrote, or any other.
        crs: to bring it to.
        label: class of objects that have none in a column `class`.

    Raises:
        ReviewError: it cannot be read, or holds other things than polygons.
    """
    try:
        rows = read_layer(result, crs=crs, polygons=True, empty_ok=True).rows
    except LayerError as error:
        raise ReviewError(f"cannot review: {error}") from error
    count = len(rows)
    labels = _texts(rows, "class", [label] * count)
    origins = _texts(rows, "origin", ["given"] * count)
    names = _texts(rows, id_column(rows), [f"{label}-{row}" for row in range(1, count + 1)])
    figures = pd.DataFrame(
        {
            name: pd.to_numeric(rows[name], errors="coerce") if name in rows else np.full(count, np.nan)
            for name in geopackage.FIGURES
        }
    ).to_numpy(float)
    rest = zip(labels, figures.tolist(), geopackage.singles(rows.geometry.to_numpy()), origins, strict=True)
    return [
        Object(key, name, kind, score, iou_pred, stability, agreement, outline, origin)
        for key, (name, (kind, (score, iou_pred, stability, agreement), outline, origin)) in enumerate(
            zip(_apart(names), rest, strict=True), 1
        )
    ]


def _apart(names: list[str]) -> list[str]:
    """The names, each of those that come again with a number that makes it another."""
    given, taken, made = set(names), set[str](), list[str]()
    if len(given) == len(names):
        return names
    for name in names:
        others = (f"{name}#{number}" for number in count_from(2))
        taken_as = next(one for one in chain([name], others) if one not in taken and (one == name or one not in given))
        taken.add(taken_as)
        made.append(taken_as)
    return made


def frame_of(objects: Sequence[Object], crs: Any) -> gpd.GeoDataFrame:
    """Return objects as a layer: the columns of an extraction, then verdict, reviewer, reviewed (UTC) and parents.

    Args:
        objects: in order.
        crs: of their geometries.
    """
    columns = {
        "id": [one.id for one in objects],
        "class": [one.label for one in objects],
        **{name: np.array([getattr(one, name) for one in objects], float) for name in geopackage.FIGURES},
        "origin": [one.origin for one in objects],
        "verdict": [one.verdict for one in objects],
        "reviewer": [one.who for one in objects],
        "reviewed": [one.when for one in objects],
        "parents": [" ".join(one.parents) for one in objects],
    }
    frame = gpd.GeoDataFrame(columns, geometry=[one.geometry for one in objects], crs=crs)
    frame = frame.astype({name: str for name in columns if name not in geopackage.FIGURES})
    frame["area_m2"] = area_m2(frame.geometry)
    return frame[[*FEATURE_COLUMNS, "verdict", "reviewer", "reviewed", "parents"]]


def fingerprint(objects: Sequence[Object]) -> str:
    """Return the sha256 of an extraction's objects, in order."""
    digest, encoder = hashlib.sha256(), json.JSONEncoder(sort_keys=True)
    outlines = shapely.to_wkb(np.array([one.geometry for one in objects], object), hex=True)
    for one, wkb in zip(objects, outlines, strict=True):
        digest.update(encoder.encode(geopackage.to_record(one, wkb)).encode())
    return digest.hexdigest()


def provenance_of(result: str | Path | None) -> dict[str, Any]:
    """Return what the map says of its origin; nothing where it is not one of ours."""
    if result is None or Path(result).suffix.lower() not in FORMATS or not Path(result).is_file():
        return {}
    try:
        found = read_provenance(result)
    except Exception:  # a damaged file, or a map of another program: `objects_of` says what is wrong with it
        return {}
    return found if isinstance(found, dict) else {}


def theme_of(text: str) -> Theme:
    """Return a theme as a map's provenance holds it.

    Raises:
        ThemeError: it cannot be read.
    """
    try:
        return Theme.model_validate(yaml.safe_load(text))
    except (yaml.YAMLError, ValidationError) as error:
        raise ThemeError("the map was made with a theme of another version; name one with --theme") from error


def file_of(scene: Any, result: str | Path | None) -> Path:
    """Return where the review file lies unless told otherwise: beside the map, or beside the scene where there is none.

    Raises:
        ReviewError: neither is a local file.
    """
    named = result if result is not None else scene
    if not isinstance(named, str | Path) or has_magic(str(named)) or not Path(named).parent.is_dir():
        raise ReviewError("a scene that is no local file needs the name of a review file; give --edits")
    return Path(named).with_suffix(".review.gpkg")


def _texts(rows: gpd.GeoDataFrame, column: str | None, otherwise: list[str]) -> list[str]:
    """A column as text; something else where it has no value, or where there is no such column."""
    if column not in rows:
        return otherwise
    known = rows[column].notna()
    return [str(value) if there else other for value, there, other in zip(rows[column], known, otherwise, strict=True)]
