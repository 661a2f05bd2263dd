"""What was there before: a layer of polygons whose objects keep their ids."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd

from hybridseg.errors import LayerError
from hybridseg.read.scene import Scene
from hybridseg.read.vectors import id_column, read_layer
from hybridseg.tracking.change import BRIEF, GONE
from hybridseg.tracking.dates import date_in, parse_date
from hybridseg.tracking.follow import GIVEN


@dataclass(frozen=True)
class OldLayer:
    """Objects of an earlier date.

    rows: `id`, `score`, `origin`, geometry, in the CRS of the scenes.
    day: their date.
    notes: what a user should know of how it was read, a line each.
    """

    rows: gpd.GeoDataFrame
    day: date
    notes: tuple[str, ...]

    @classmethod
    def read(cls, path: str | Path, said: str | None, scene: Scene, label: str, first: date, alone: bool) -> OldLayer:
        """Read a layer.

        Args:
            path: any layer of polygons, or a result of `track`.
            said: its date.
            scene: of the first date.
            label: where the layer has a column `class`, the rows of this class are taken.
            first: date of the first scene, which must be later.
            alone: whether no other class is followed; else the layer must say which rows are of which.

        Raises:
            LayerError: it cannot be read, has no date, or no object of the class.
        """
        found = read_layer(path, crs=scene.crs.to_wkt(), polygons=True)
        rows = found.rows.reset_index(drop=True)
        if "class" in rows and (rows["class"] == label).any():
            rows = rows[rows["class"] == label]
        elif "class" in rows:
            classes = ", ".join(sorted(map(str, rows["class"].unique()))[:5])
            raise LayerError(f"{found.name} holds no {label}, but {classes}; give another --theme or layer")
        elif not alone:
            raise LayerError(
                f"{found.name} has no column class that says what its rows are; give one --theme at a time"
            )
        last = None
        if {"track_id", "became", "last_seen"} <= set(rows):
            last = pd.to_datetime(rows["last_seen"]).max().date()
            rows = rows[~rows["became"].isin([GONE, BRIEF]) & rows["merged_into"].isna()]
        day = parse_date(said) if said is not None else last or date_in(Path(path).name)
        if day is None:
            raise LayerError(f"{found.name} has no date in its name; give --layer-date, e.g. --layer-date 2024-05-01")
        if day >= first:
            raise LayerError(f"{found.name} is of {day}, and the first scene of {first}; the layer must be the earlier")
        column = id_column(rows)
        names = [f"{label}-{row}" for row in rows.index] if column is None else rows[column].astype(str).tolist()
        doubled = pd.Index(names).duplicated()
        if doubled.any():
            raise LayerError(f"{found.name} has the {column} {names[int(np.argmax(doubled))]} twice; make ids unique")
        table = {"id": names, "score": np.nan, "origin": GIVEN}
        return cls(gpd.GeoDataFrame(table, geometry=rows.geometry.to_numpy(), crs=rows.crs), day, found.notes)
