"""One row an object, found once on the heatmap of the whole raster: the prompts, which are a file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pyogrio.errors
import shapely
from affine import Affine
from rasterio.features import shapes

from hybridseg.errors import PromptsError
from hybridseg.theme import InstancePolicy
from hybridseg.types import PROMPT_COLUMNS, Window
from hybridseg.what.instances import Objects, find_objects, touching


@dataclass(frozen=True)
class Lattice:
    """The heatmap's grid: its affine, CRS, and where its first pixel lies on the lattice anchored at the CRS origin."""

    affine: Affine
    crs: str
    anchor: tuple[int, int]
    pixel_m: float


@dataclass(frozen=True)
class FindInstances:
    """Turns one padded block of heatmap into the prompts whose peaks lie in the block's core."""

    label: str
    policy: InstancePolicy
    lattice: Lattice
    negatives: int = 3

    @property
    def halo_px(self) -> int:
        """Heatmap pixels to read around a core so that every object with its peak inside is whole."""
        return int(np.ceil(self.policy.max_object_m / self.lattice.pixel_m))

    def __call__(self, extent: np.ndarray, interior: np.ndarray, block: Window, core: Window) -> gpd.GeoDataFrame:
        """Prompts of a core. extent, interior: (h, w) of `block`, which surrounds `core` (both in heatmap px)."""
        objects = find_objects(extent, interior, self.policy, self.lattice.pixel_m)
        rows, cols = core.slices(block)
        y, x = objects.peaks.T
        mine = (y >= rows.start) & (y < rows.stop) & (x >= cols.start) & (x < cols.stop)
        mine &= objects.area_px * self.lattice.pixel_m**2 >= self.policy.min_area_m2
        mine &= objects.score >= self.policy.min_score
        affine = self.lattice.affine * Affine.translation(block.col, block.row)
        supports = _trace(objects.labels, np.flatnonzero(mine) + 1, affine)
        neighbours = self._negatives(objects, set(supports))
        records = []
        for label, support in supports.items():
            row, col = objects.peaks[label - 1].tolist()
            x0, y0 = affine * (col + 0.5, row + 0.5)
            away = [affine * (c + 0.5, r + 0.5) for r, c in neighbours[label]]
            identity = self._identity(block.col + col, block.row + row)
            score = float(objects.score[label - 1])
            positive = shapely.MultiPoint([(x0, y0)])
            records.append((identity, self.label, score, x0, y0, positive, shapely.MultiPoint(away), support))
        return as_prompts(records, self.lattice.crs)

    def join(self, parts: Sequence[gpd.GeoDataFrame]) -> gpd.GeoDataFrame:
        """All blocks' prompts."""
        return join_prompts(parts, self.lattice.crs)

    def _identity(self, col: int, row: int) -> str:
        """From class and place of the peak on the CRS-anchored lattice: the same in every run over the same ground."""
        place = f"{self.label}:{self.lattice.crs}:{self.lattice.pixel_m:.4f}"
        place += f":{self.lattice.anchor[0] + col}:{self.lattice.anchor[1] + row}"
        return f"{self.label}-{hashlib.sha256(place.encode()).hexdigest()[:12]}"

    def _negatives(self, objects: Objects, wanted: set[int]) -> dict[int, list[tuple[int, int]]]:
        """Peaks of the nearest touching neighbours of each object."""
        near: dict[int, list[int]] = {label: [] for label in wanted}
        for a, b in touching(objects.labels):
            if a in near:
                near[a].append(b)
        chosen = {}
        for label, others in near.items():
            peaks = objects.peaks[np.array(sorted(others), int) - 1]
            order = np.argsort(np.square(peaks - objects.peaks[label - 1]).sum(1), kind="stable")
            chosen[label] = [(int(r), int(c)) for r, c in peaks[order[: self.negatives]]]
        return chosen


def _trace(labels: np.ndarray, wanted: np.ndarray, affine: Affine) -> dict[int, shapely.Polygon]:
    """Outline of each wanted label on the pixel grid."""
    mask = np.isin(labels, wanted)
    traced = shapes(labels, mask=mask, connectivity=4, transform=affine)
    return {int(value): shapely.geometry.shape(geometry) for geometry, value in traced}


def as_prompts(records: Sequence[tuple[object, ...]], crs: object) -> gpd.GeoDataFrame:
    """Records in the order of PROMPT_COLUMNS as a frame whose geometry is the support."""
    frame = pd.DataFrame(list(records), columns=list(PROMPT_COLUMNS))
    return set_geometries(gpd.GeoDataFrame(frame, geometry="support", crs=crs), crs)


def set_geometries(frame: gpd.GeoDataFrame, crs: object) -> gpd.GeoDataFrame:
    """Types and CRS of every column, also of an empty frame."""
    for column in ("positive", "negative"):
        frame[column] = gpd.GeoSeries(list(frame[column]), index=frame.index, crs=crs)
    return frame.astype({"id": "string", "class": "string", "score": float, "peak_x": float, "peak_y": float})


def join_prompts(parts: Iterator[gpd.GeoDataFrame] | Sequence[gpd.GeoDataFrame], crs: object) -> gpd.GeoDataFrame:
    """All blocks' prompts, in an order that does not depend on the blocks."""
    found = [part for part in parts if len(part)]
    if not found:
        return as_prompts([], crs)
    joined = gpd.GeoDataFrame(pd.concat(found, ignore_index=True), geometry="support", crs=crs)
    return joined.sort_values(["peak_y", "peak_x"], ascending=[False, True], ignore_index=True)


def within(prompts: gpd.GeoDataFrame, extent: tuple[float, float, float, float]) -> pd.Series:
    """Which prompts have their peak inside left, bottom, right, top."""
    return prompts["peak_x"].between(extent[0], extent[2]) & prompts["peak_y"].between(extent[1], extent[3])


def write_prompts(prompts: gpd.GeoDataFrame, path: Path) -> None:
    """GeoParquet with three geometry columns; QGIS shows the supports."""
    prompts.to_parquet(path, schema_version="1.1.0", write_covering_bbox=True, compression="zstd")


def _first_layer(path: Path) -> str | None:
    """The first layer with geometries: a GeoPackage may hold its styles, too."""
    return next((name for name, kind in pyogrio.list_layers(path) if kind is not None), None)


def read_prompts(path: Path, label: str, crs: object) -> gpd.GeoDataFrame:
    """Prompts from a file: this module's own, edited or not, or any layer of polygons drawn by hand.

    What a hand-drawn layer lacks is filled in: class `label`, score 1, a point inside as the positive point. Whether
    the scores are a classifier's (a map's are calibrated already) is in `.attrs["scored"]`.

    Raises:
        PromptsError: not readable, no CRS, or rows that are not polygons.
    """
    try:
        frame = gpd.read_parquet(path) if path.suffix == ".parquet" else gpd.read_file(path, layer=_first_layer(path))
    except (OSError, ValueError, pyogrio.errors.DataSourceError) as error:
        raise PromptsError(f"cannot read prompts from {path}: {str(error).splitlines()[0]}") from error
    if frame.crs is None:
        raise PromptsError(f"{path} has no CRS; save the prompts with the CRS of the scene")
    frame = frame.to_crs(crs)
    if frame.geometry.name != "support":
        frame = frame.rename_geometry("support")
    if not frame.geometry.geom_type.isin(["Polygon", "MultiPolygon"]).all():
        kinds = ", ".join(sorted(set(frame.geometry.geom_type.astype(str))))
        raise PromptsError(f"{path} holds {kinds}; prompts are polygons (the support of each object)")
    inside, scored = frame.geometry.representative_point(), {"score", "peak_x"} <= set(frame.columns)
    defaults = {
        "id": [f"{label}-{hashlib.sha256(g.wkb).hexdigest()[:12]}" for g in frame.geometry],
        "class": label,
        "score": 1.0,
        "peak_x": inside.x,
        "peak_y": inside.y,
        "positive": [shapely.MultiPoint([p]) for p in inside],
        "negative": [shapely.MultiPoint()] * len(frame),
    }
    for column, value in defaults.items():
        if column not in frame:
            frame[column] = value
    for column in ("positive", "negative"):
        if not isinstance(frame[column], gpd.GeoSeries):
            frame[column] = gpd.GeoSeries(list(frame[column]), index=frame.index, crs=crs)
        frame[column] = frame[column].set_crs(frame[column].crs or crs).to_crs(crs)
    prompts = set_geometries(frame[list(PROMPT_COLUMNS)].reset_index(drop=True), crs)
    prompts.attrs["scored"] = scored
    return prompts
