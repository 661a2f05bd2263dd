"""Tables that pass between the stages: prompts, refined masks, features.

Each is a frozen value around a GeoDataFrame, or around a file where rows are many; checked when made, written to and
read from GeoParquet. `rows` must not be changed in place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from hybridseg.errors import PromptsError
from hybridseg.files import replacing
from hybridseg.folders import TemporaryFolder
from hybridseg.rowfile import RowFile, in_batches, write_batches
from hybridseg.types import FEATURE_COLUMNS, Extent, Sweep

PROMPT_COLUMNS = ("id", "class", "score", "peak_x", "peak_y", "positive", "negative", "support")
"""Columns of prompts. `support` (the coarse outline; none for a click) is the active geometry; `positive` and
`negative` are MultiPoints."""

FIGURES = ("iou_pred", "stability", "agreement")
"""Quality of a mask: the model's predicted IoU, IoU of the mask at two thresholds, IoU with the support."""

REFINED_COLUMNS = ("id", "class", "score", "peak_x", "peak_y", *FIGURES, "support", "outline")
"""Columns of refined masks. `outline` (none where a prompt was not refined) is the active geometry."""

IN_MEMORY = 100_000
"""Rows of a table that are kept in memory, where each takes about 2 kB; a larger one waits in a file."""
_TEXT = {"id": "string", "class": "string"}


@dataclass(frozen=True)
class _Table:
    """Rows of one kind, in one CRS; those of a file were checked when it was written or opened.

    held: the rows, with the columns of their kind in order, or their file.
    sweep: how they were made.
    """

    held: gpd.GeoDataFrame | RowFile
    sweep: Sweep = Sweep()

    @classmethod
    def from_batches(cls, batches: Iterable[gpd.GeoDataFrame], count: int) -> Self:
        """Make a table of `count` rows that come some at a time; a large one waits in a temporary file."""
        if count <= IN_MEMORY:
            frames = list(batches)
            return cls(_concat(frames, frames[0].crs))
        folder = TemporaryFolder()
        found = RowFile(folder.path / "rows.parquet", folder)
        write_batches((cls(frame).rows for frame in batches), found.path)  # rows are checked as they come
        return cls(found)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a file that `write` wrote, read through; a large table stays in it."""
        found = RowFile(path)
        if len(found) <= IN_MEMORY:
            return cls(found.read())
        for frame in found.batches():
            cls(frame)
        return cls(found)

    def __len__(self) -> int:
        return len(self.held)

    @property
    def rows(self) -> gpd.GeoDataFrame:
        """All rows; those of a file are read anew each time."""
        return self.held.read() if isinstance(self.held, RowFile) else self.held

    def batches(self, names: Sequence[str] | None = None) -> Iterator[Any]:
        """Yield the rows in order, `rowfile.AT_ONCE` at a time, at least once.

        Args:
            names: of the columns that are wanted; default: all.
        """
        if isinstance(self.held, RowFile):
            yield from self.held.batches(names)
            return
        for rows in in_batches(self.held):
            yield rows if names is None else rows[list(names)]

    def columns(self, *names: str) -> Any:
        """Return some columns of all rows."""
        return self.held[list(names)] if not isinstance(self.held, RowFile) else pd.concat(list(self.batches(names)))

    @property
    def crs(self) -> Any:
        """CRS of all geometry columns."""
        return self.held.crs

    def take(self, rows: np.ndarray | pd.Series) -> Self:
        """The same table with some of its rows, by position or as a mask."""
        chosen, all_rows = np.asarray(rows), self.rows
        kept = all_rows[chosen] if chosen.dtype == bool else all_rows.iloc[chosen]
        return replace(self, held=kept.reset_index(drop=True))

    def write(self, path: Path) -> None:
        """Write to GeoParquet; the file appears whole or not at all.

        Raises:
            OutputError: the file cannot be written there.
        """
        with replacing(path) as beside:
            write_batches(self.batches(), beside)


@dataclass(frozen=True)
class Prompts(_Table):
    """What the refiner is asked: a row an object, or several of one id for a region in pieces.

    Raises `PromptsError` when made of rows that cannot be used.
    """

    def __post_init__(self) -> None:
        _check_columns(self.held, PROMPT_COLUMNS, "prompts")
        if isinstance(self.held, RowFile):
            return
        _check_scores(self.held, "prompts")
        support = self.held["support"].to_numpy()
        lacking = _lacking(support)
        aimless = lacking & shapely.is_empty(self.held["positive"].to_numpy())
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
        return cls.from_batches(*_chained(list(parts) or [cls.from_records([], crs)]))

    def within(self, extent: Extent) -> pd.Series:
        """Which prompts have their peak inside left, bottom, right, top."""
        return within(self.columns("peak_x", "peak_y"), extent)


@dataclass(frozen=True)
class Refined(_Table):
    """Masks of all prompts, with their outlines and figures, before the gate: rows in the order of the prompts."""

    def __post_init__(self) -> None:
        _check_columns(self.held, REFINED_COLUMNS, "refined masks")
        if not isinstance(self.held, RowFile):
            _check_scores(self.held, "refined masks")

    @classmethod
    def from_prompts(
        cls,
        prompts: Prompts,
        outlines: Sequence[shapely.Geometry | bytes | None] | np.ndarray | None = None,
        figures: np.ndarray | None = None,
    ) -> Refined:
        """Prompts with what the refiner made of them.

        Args:
            prompts: N rows.
            outlines: (N,) polygons in the prompts' CRS or their WKB, None where there is no mask; None: nothing was
                refined.
            figures: (N, 3) float of `FIGURES`, NaN where there is no mask.
        """
        names = [name for name in prompts.held.columns if name in REFINED_COLUMNS]

        def frames() -> Iterator[gpd.GeoDataFrame]:
            for rows in prompts.batches(names):
                some = slice(rows.index[0], rows.index[-1] + 1) if len(rows) else slice(0, 0)
                frame = rows.copy()
                frame[list(FIGURES)] = np.nan if figures is None else figures[some]
                drawn = [None] * len(rows) if outlines is None else list(outlines[some])
                if any(isinstance(each, bytes) for each in drawn):
                    drawn = list(shapely.from_wkb(drawn))
                frame["outline"] = gpd.GeoSeries(drawn, index=frame.index, crs=prompts.crs)
                yield gpd.GeoDataFrame(frame[list(REFINED_COLUMNS)], geometry="outline", crs=prompts.crs)

        return cls.from_batches(frames(), len(prompts))

    @classmethod
    def concat(cls, parts: Sequence[Refined], crs: object) -> Refined:
        """All rows of several tables, in order."""
        return cls.from_batches(*_chained(parts))

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
        return np.concatenate([~shapely.is_missing(rows["outline"].to_numpy()) for rows in self.batches(["outline"])])

    @property
    def supported(self) -> np.ndarray:
        """(N,) bool, which rows have a coarse outline, too."""
        return np.concatenate([~_lacking(rows["support"].to_numpy()) for rows in self.batches(["support"])])


@dataclass(frozen=True)
class Features(_Table):
    """The result: a row an object, with `FEATURE_COLUMNS`, and others behind them.

    dropped: outlines that doubled another, or of which shaping left nothing.
    """

    dropped: int = 0

    def __post_init__(self) -> None:
        _check_columns(self.held, FEATURE_COLUMNS, "features")


def check_ids(rows: pd.DataFrame) -> None:
    """Check that no two objects share an id.

    Raises:
        PromptsError: some do.
    """
    doubled = rows["id"].duplicated()
    if doubled.any():
        name = rows["id"][doubled].iloc[0]
        raise PromptsError(f"{int(doubled.sum()) + 1} prompts share ids, as {name!r}; give each object one of its own")


def within(rows: pd.DataFrame, extent: Extent) -> pd.Series:
    """Which rows have their peak inside left, bottom, right, top."""
    return rows["peak_x"].between(extent[0], extent[2]) & rows["peak_y"].between(extent[1], extent[3])


def _concat(frames: Sequence[gpd.GeoDataFrame], crs: object) -> gpd.GeoDataFrame:
    filled = [f for f in frames if len(f)] or list(frames[:1])
    return gpd.GeoDataFrame(pd.concat(filled, ignore_index=True), geometry=filled[0].geometry.name, crs=crs)


def _chained(tables: Sequence[_Table]) -> tuple[Iterator[gpd.GeoDataFrame], int]:
    """Rows of several tables, in order, and how many they are."""
    filled = [table for table in tables if len(table)] or list(tables[:1])
    return (rows for table in filled for rows in table.batches()), sum(map(len, filled))


def _lacking(supports: np.ndarray) -> np.ndarray:
    return np.asarray(shapely.is_missing(supports) | shapely.is_empty(supports))


def _check_columns(rows: gpd.GeoDataFrame | RowFile, columns: Sequence[str], what: str) -> None:
    missing = [name for name in columns if name not in rows.columns]
    if missing:
        raise PromptsError(f"{what} lack the columns {', '.join(missing)}; give {', '.join(columns)}")
    if rows.crs is None:
        raise PromptsError(f"{what} have no CRS; save them with the CRS of the scene")


def _check_scores(rows: gpd.GeoDataFrame, what: str) -> None:
    scores = pd.to_numeric(rows["score"], errors="coerce")
    wrong = rows.loc[~scores.between(0, 1), "score"]  # NaN is not between
    if len(wrong):
        raise PromptsError(f"{what} hold the score {wrong.iloc[0]}; scores are from 0 to 1")
