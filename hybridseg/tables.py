"""Tables that pass between the stages: prompts, refined masks, features.

Each is a frozen value around a GeoDataFrame, checked when made, written to and read from GeoParquet. `rows` must not be
changed in place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from hybridseg.errors import PromptsError
from hybridseg.files import replacing
from hybridseg.types import FEATURE_COLUMNS, Extent, Sweep

PROMPT_COLUMNS = ("id", "class", "score", "peak_x", "peak_y", "positive", "negative", "support")
"""Columns of prompts. `support` (the coarse outline; none for a click) is the active geometry; `positive` and
`negative` are MultiPoints."""

FIGURES = ("iou_pred", "stability", "agreement")
"""Quality of a mask: the model's predicted IoU, IoU of the mask at two thresholds, IoU with the support."""

REFINED_COLUMNS = ("id", "class", "score", "peak_x", "peak_y", *FIGURES, "support", "outline")
"""Columns of refined masks. `outline` (none where a prompt was not refined) is the active geometry."""

_HASHED = 10_000
"""Rows of a table that are hashed at once."""
_TEXT = {"id": "string", "class": "string"}


@dataclass(frozen=True)
class _Table:
    """Rows of one kind, in one CRS.

    rows: has the columns of its kind, in order.
    sweep: how they were made.
    """

    rows: gpd.GeoDataFrame
    sweep: Sweep = Sweep()

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def crs(self) -> Any:
        """CRS of all geometry columns."""
        return self.rows.crs

    def take(self, rows: np.ndarray | pd.Series) -> Self:
        """The same table with some of its rows, by position or as a mask."""
        chosen = np.asarray(rows)
        kept = self.rows[chosen] if chosen.dtype == bool else self.rows.iloc[chosen]
        return replace(self, rows=kept.reset_index(drop=True))

    def fingerprint(self) -> str:
        """Return the sha256 of all values, whatever made them."""
        return table_hash(self.rows)

    def write(self, path: Path) -> None:
        """Write to GeoParquet; the file appears whole or not at all.

        Raises:
            OutputError: the file cannot be written there.
        """
        with replacing(path) as beside:
            self.rows.to_parquet(beside, schema_version="1.1.0", write_covering_bbox=True, compression="zstd")


@dataclass(frozen=True)
class Prompts(_Table):
    """What the refiner is asked: a row an object, or several of one id for a region in pieces.

    Raises `PromptsError` when made of rows that cannot be used.
    """

    def __post_init__(self) -> None:
        _check_columns(self.rows, PROMPT_COLUMNS, "prompts")
        _check_scores(self.rows, "prompts")
        support = self.rows["support"].to_numpy()
        lacking = shapely.is_missing(support) | shapely.is_empty(support)
        aimless = lacking & shapely.is_empty(self.rows["positive"].to_numpy())
        if aimless.any():
            raise PromptsError(f"{int(aimless.sum())} prompts have neither an outline nor a point; give one of them")
        bounds = shapely.bounds(support[~lacking])
        if len(bounds) and not np.isfinite(bounds).all():
            raise PromptsError("prompts hold coordinates that are not finite; repair the layer")

    @classmethod
    def from_records(cls, records: Sequence[tuple[object, ...]], crs: object) -> Prompts:
        """Prompts from tuples in the order of `PROMPT_COLUMNS`."""
        return cls.from_frame(pd.DataFrame(list(records), columns=list(PROMPT_COLUMNS)), crs)

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, crs: object) -> Prompts:
        """Prompts from a frame with `PROMPT_COLUMNS`, of any dtype, its geometries in `crs`."""
        frame = frame[list(PROMPT_COLUMNS)].copy()
        for column in ("positive", "negative", "support"):
            frame[column] = gpd.GeoSeries(list(frame[column]), index=frame.index, crs=crs)
        typed = frame.astype({**_TEXT, "score": float, "peak_x": float, "peak_y": float})
        return cls(gpd.GeoDataFrame(typed, geometry="support", crs=crs))

    @classmethod
    def concat(cls, parts: Iterable[Prompts], crs: object) -> Prompts:
        """All rows of several tables, in order."""
        return cls(_concat([p.rows for p in parts], crs) if (parts := list(parts)) else cls.from_records([], crs).rows)

    def within(self, extent: Extent) -> pd.Series:
        """Which prompts have their peak inside left, bottom, right, top."""
        return within(self.rows, extent)


@dataclass(frozen=True)
class Refined(_Table):
    """Masks of all prompts, with their outlines and figures, before the gate: rows in the order of the prompts."""

    def __post_init__(self) -> None:
        _check_columns(self.rows, REFINED_COLUMNS, "refined masks")
        _check_scores(self.rows, "refined masks")

    @classmethod
    def from_prompts(
        cls,
        prompts: Prompts,
        outlines: Sequence[shapely.Geometry | None] | None = None,
        figures: np.ndarray | None = None,
        sweep: Sweep | None = None,
    ) -> Refined:
        """Prompts with what the refiner made of them.

        Args:
            prompts: N rows.
            outlines: (N,) polygons in the prompts' CRS, None where there is no mask; None: nothing was refined.
            figures: (N, 3) float of `FIGURES`, NaN where there is no mask.
            sweep: how they were made.
        """
        rows, count = prompts.rows, len(prompts)
        figures = np.full((count, len(FIGURES)), np.nan) if figures is None else figures
        frame = rows[[name for name in REFINED_COLUMNS if name in rows]].copy()
        frame[list(FIGURES)] = figures
        drawn = [None] * count if outlines is None else list(outlines)
        frame["outline"] = gpd.GeoSeries(drawn, index=frame.index, crs=prompts.crs)
        frame = gpd.GeoDataFrame(frame[list(REFINED_COLUMNS)], geometry="outline", crs=prompts.crs)
        return cls(frame, sweep or Sweep())

    @classmethod
    def concat(cls, parts: Sequence[Refined], crs: object) -> Refined:
        """All rows of several tables, in order."""
        return cls(_concat([p.rows for p in parts], crs))

    @classmethod
    def read(cls, path: Path, crs: object) -> Refined:
        """Read what `write` wrote, into another CRS where it differs.

        Raises:
            PromptsError: no such file, or not one of refined masks.
        """
        try:
            rows = gpd.read_parquet(path)
        except (OSError, ValueError) as error:
            said = (str(error).splitlines() or ["?"])[0]
            raise PromptsError(f"cannot read refined masks from {path}: {said}; give a refined.parquet") from error
        _check_columns(rows, REFINED_COLUMNS, str(path))
        peaks = gpd.GeoSeries.from_xy(rows["peak_x"], rows["peak_y"], crs=rows.crs).to_crs(crs)
        rows["peak_x"], rows["peak_y"] = peaks.x, peaks.y
        for column in ("support", "outline"):
            rows[column] = gpd.GeoSeries(rows[column], crs=rows[column].crs or rows.crs).to_crs(crs)
        return cls(rows[list(REFINED_COLUMNS)].set_geometry("outline"))

    @property
    def masked(self) -> np.ndarray:
        """(N,) bool, which rows have a mask."""
        return ~shapely.is_missing(self.rows["outline"].to_numpy())

    @property
    def supported(self) -> np.ndarray:
        """(N,) bool, which rows have a coarse outline, too."""
        support = self.rows["support"].to_numpy()
        return ~(shapely.is_missing(support) | shapely.is_empty(support))


@dataclass(frozen=True)
class Features(_Table):
    """The result: a row an object, with `FEATURE_COLUMNS`, and others behind them.

    dropped: outlines that doubled another, or of which shaping left nothing.
    """

    dropped: int = 0

    def __post_init__(self) -> None:
        _check_columns(self.rows, FEATURE_COLUMNS, "features")


def table_hash(rows: gpd.GeoDataFrame) -> str:
    """Return the sha256 of all values of a table, some rows at a time: their text takes more room than they do."""
    crs = rows.crs.to_epsg() or rows.crs.to_wkt()
    digest = hashlib.sha256(repr((list(rows.columns), crs, len(rows))).encode())
    for start in range(0, len(rows), _HASHED):
        some = rows.iloc[start : start + _HASHED]
        for name in rows.columns:
            column = some[name]
            if isinstance(column, gpd.GeoSeries):
                digest.update(b"\0".join(w or b"" for w in shapely.to_wkb(column.to_numpy())))
            else:
                digest.update(repr(column.tolist()).encode())
    return digest.hexdigest()


def check_ids(rows: gpd.GeoDataFrame) -> None:
    """Check that no two objects share an id.

    Raises:
        PromptsError: some do.
    """
    doubled = rows["id"].duplicated()
    if doubled.any():
        name = rows["id"][doubled].iloc[0]
        raise PromptsError(f"{int(doubled.sum()) + 1} prompts share ids, as {name!r}; give each object one of its own")


def within(rows: gpd.GeoDataFrame, extent: Extent) -> pd.Series:
    """Which rows have their peak inside left, bottom, right, top."""
    return rows["peak_x"].between(extent[0], extent[2]) & rows["peak_y"].between(extent[1], extent[3])


def _concat(frames: Sequence[gpd.GeoDataFrame], crs: object) -> gpd.GeoDataFrame:
    filled = [f for f in frames if len(f)] or list(frames[:1])
    return gpd.GeoDataFrame(pd.concat(filled, ignore_index=True), geometry=filled[0].geometry.name, crs=crs)


def _check_columns(rows: gpd.GeoDataFrame, columns: Sequence[str], what: str) -> None:
    missing = [name for name in columns if name not in rows]
    if missing:
        raise PromptsError(f"{what} lack the columns {', '.join(missing)}; give {', '.join(columns)}")
    if rows.crs is None:
        raise PromptsError(f"{what} have no CRS; save them with the CRS of the scene")


def _check_scores(rows: gpd.GeoDataFrame, what: str) -> None:
    scores = pd.to_numeric(rows["score"], errors="coerce")
    wrong = rows.loc[~scores.between(0, 1), "score"]  # NaN is not between
    if len(wrong):
        raise PromptsError(f"{what} hold the score {wrong.iloc[0]}; scores are from 0 to 1")
