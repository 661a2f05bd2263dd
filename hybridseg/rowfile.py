"""Rows with geometries, kept so that they take little memory: in a GeoParquet file, or packed."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyproj
import shapely

AT_ONCE = 10_000
"""Rows of a batch, and of a row group."""


@dataclass(frozen=True)
class RowFile:
    """Rows in a file, which must not be changed while they are in use.

    path: the file.
    owner: what removes the file when it goes; None: it stays.
    """

    path: Path
    owner: Any = None

    def __len__(self) -> int:
        return int(self._footer.num_rows)

    @property
    def columns(self) -> list[str]:
        """Names of the columns, in order."""
        return [name for name in self._footer.schema.to_arrow_schema().names if name != "bbox"]

    @property
    def crs(self) -> pyproj.CRS | None:
        """CRS of all geometry columns."""
        stated = self._geo["columns"][self._geo["primary_column"]].get("crs", "OGC:CRS84")
        return None if stated is None else pyproj.CRS.from_user_input(stated)

    def batches(self, names: Sequence[str] | None = None) -> Iterator[pd.DataFrame]:
        """Yield the rows in order, `AT_ONCE` at a time.

        Args:
            names: of the columns that are wanted; default: all. With the active geometry among them frames are
                GeoDataFrames.
        """
        names, geo, start, crs = list(names or self.columns), self._geo, 0, self.crs
        with pq.ParquetFile(self.path) as file:
            for batch in file.iter_batches(AT_ONCE, columns=names):
                frame = pa.Table.from_batches([batch]).to_pandas()[names]
                frame.index = pd.RangeIndex(start, start + len(frame))
                for name in geo["columns"].keys() & set(names):
                    frame[name] = gpd.GeoSeries(shapely.from_wkb(frame[name].to_numpy()), frame.index, crs)
                if geo["primary_column"] in names:
                    frame = gpd.GeoDataFrame(frame, geometry=geo["primary_column"])
                start += len(frame)
                yield frame

    def read(self) -> gpd.GeoDataFrame:
        """Return all rows."""
        return gpd.read_parquet(self.path)

    @cached_property
    def _footer(self) -> pq.FileMetaData:
        return pq.read_metadata(self.path)

    @property
    def _geo(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._footer.metadata[b"geo"])
        return found


def in_batches(rows: gpd.GeoDataFrame) -> Iterator[gpd.GeoDataFrame]:
    """Yield the rows of a frame in order, `AT_ONCE` at a time, at least once."""
    for start in range(0, max(1, len(rows)), AT_ONCE):
        yield rows.iloc[start : start + AT_ONCE]


def write_batches(batches: Iterable[gpd.GeoDataFrame], path: Path) -> None:
    """Write frames of the same columns, one after the other, as one GeoParquet file; at least one, which may be empty.

    Each row has its bounds in a column `bbox`. Geometry types and the bounds of all are not stated: they are known at
    the end only.
    """
    writer: pq.ParquetWriter | None = None
    try:
        for frame in batches:
            for rows in in_batches(frame):
                table = as_parquet(rows)
                if writer is None:
                    writer = pq.ParquetWriter(path, _general(table.schema), compression="zstd")
                writer.write_table(table.cast(writer.schema))
    finally:
        if writer is not None:
            writer.close()


@dataclass(frozen=True)
class PackedRows:
    """Rows in memory whose geometries are WKB in Arrow, which takes a third of the room that they take as objects.

    others: columns that are no geometries.
    shapes: the geometry columns.
    crs: of these.
    """

    others: pd.DataFrame
    shapes: pa.Table
    crs: Any

    @classmethod
    def of(cls, frame: gpd.GeoDataFrame) -> PackedRows:
        """Pack all rows of a frame."""
        names = [name for name in frame if isinstance(frame[name], gpd.GeoSeries)]
        wkb = {name: pa.array(shapely.to_wkb(frame[name].to_numpy()), pa.large_binary()) for name in names}
        return cls(frame.drop(columns=names), pa.table(wkb), frame.crs)

    @classmethod
    def chain(cls, parts: Iterable[PackedRows]) -> PackedRows:
        """Return all rows of several parts with the same columns, in order; at least one, which may be empty."""
        all_ = list(parts)
        filled = [part for part in all_ if len(part)] or all_[:1]  # columns of an empty one may be of other types
        others = pd.concat([part.others for part in filled], ignore_index=True)
        return cls(others, pa.concat_tables([part.shapes for part in filled]).combine_chunks(), filled[0].crs)

    def __len__(self) -> int:
        return len(self.others)

    def read(self) -> pd.DataFrame:
        """Return all rows."""
        return self.take(np.arange(len(self)))

    def take(self, rows: np.ndarray) -> pd.DataFrame:
        """Return some rows, by position."""
        wkb, frame = self.shapes.take(pa.array(rows)), self.others.iloc[rows].reset_index(drop=True)
        made = {name: shapely.from_wkb(wkb[name].to_numpy()) for name in wkb.column_names}
        return frame.assign(**{name: gpd.GeoSeries(drawn, frame.index, self.crs) for name, drawn in made.items()})


def as_parquet(frame: gpd.GeoDataFrame) -> pa.Table:
    """Return a frame as the table that GeoPandas writes, without its index."""
    with io.BytesIO() as file:
        frame.to_parquet(file, index=False, schema_version="1.1.0", write_covering_bbox=True, compression=None)
        return pq.read_table(file)


def _general(schema: pa.Schema) -> pa.Schema:
    """A schema whose metadata say nothing of single rows."""
    geo = json.loads(schema.metadata[b"geo"])
    for column in geo["columns"].values():
        column["geometry_types"] = []
        column.pop("bbox", None)
    return schema.with_metadata({**schema.metadata, b"geo": json.dumps(geo).encode()})
