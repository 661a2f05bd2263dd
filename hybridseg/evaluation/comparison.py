"""A map and its reference brought together: one CRS, one set of classes, the area that counts, and pixels over it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, get_args

import geopandas as gpd
import numpy as np
import shapely
from odc.geo.geobox import GeoBox

from hybridseg.errors import EvaluateError
from hybridseg.evaluation import layers
from hybridseg.evaluation.area import Region, StudyArea, check_overlap, choose_area, crs_of, frame
from hybridseg.evaluation.layers import Kind, Objects, Touching
from hybridseg.evaluation.rasters import RasterKind, RasterReference, is_raster, read_grid, read_reference
from hybridseg.metrics.pixels import metric_grid
from hybridseg.read.ground import gsd_m
from hybridseg.read.vectors import read_layer
from hybridseg.types import Extent

if TYPE_CHECKING:
    LayerInput: TypeAlias = str | Path | gpd.GeoDataFrame
else:
    LayerInput = str | Path  # what the command line can give, which makes its flags from the types of `evaluate`

ANY = "object"
"""The one class where classes are not compared."""

_LINE_TOLERANCE_M = 5.0


@dataclass(frozen=True)
class Request:
    """What to compare and how; the arguments of `hybridseg.evaluation.evaluate`, which explains them.

    Raises:
        EvaluateError: a setting is out of range.
    """

    pred: LayerInput
    ref: LayerInput
    scene: str | Path | None = None
    aoi: LayerInput | None = None
    ignore: LayerInput | None = None
    label_column: str | None = None
    rename: Mapping[str, str] | None = None
    raster: RasterKind = "auto"
    touching: Touching = "apart"
    tolerance_m: float | None = None
    compare: LayerInput | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise EvaluateError(f"the seed is {self.seed}; give 0 or more")
        if self.tolerance_m is not None and not 0 < self.tolerance_m < math.inf:
            raise EvaluateError(f"the tolerance is {self.tolerance_m} m; give metres above 0")
        for name, value, choices in (("raster", self.raster, RasterKind), ("touching", self.touching, Touching)):
            if value not in get_args(choices):
                raise EvaluateError(f"{name} is '{value}'; choose one of {', '.join(get_args(choices))}")

    def to_dict(self) -> dict[str, Any]:
        """Return all settings, sources as text."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: input_text(v) if isinstance(v, Path | gpd.GeoDataFrame) else v for name, v in values.items()}


@dataclass(frozen=True)
class Side:
    """The objects of one side that lie in the area, in the metric CRS.

    Attributes:
        whole: (n,) geometries as they were given.
        seen: (n,) their part on ground that counts; none is empty.
        classes: (n,) int, positions in `Comparison.classes`.
        scores: (n,) float64 or None.
        rows: (n,) int, positions in the file.
        ignored: (n,) bool, more than half of it lies in an ignore region.
        skipped: number of objects that lie in ignore regions entirely; they are not among the n.
    """

    whole: np.ndarray
    seen: np.ndarray
    classes: np.ndarray
    scores: np.ndarray | None
    rows: np.ndarray
    ignored: np.ndarray
    skipped: int

    def __len__(self) -> int:
        return len(self.seen)

    @property
    def cut(self) -> np.ndarray:
        """Which objects reach beyond the ground that counts, (n,) bool."""
        return np.asarray(~shapely.equals_exact(self.seen, self.whole))


@dataclass(frozen=True)
class Comparison:
    """All that the metrics need.

    Attributes:
        kind: polygons or lines.
        classes: names; one where classes are not compared.
        pred: the prediction.
        ref: the reference.
        area: the ground that counts.
        extent: the extent to lay blocks over, in the metric CRS.
        grid: the pixels to count on.
        pixel_m: their side on the ground (m).
        object_m: side of a square as large as the median reference object, or the median length of lines (m).
        tolerance_m: distance within which outlines and lines agree (m).
        notes: one line for each choice that was made.
        warnings: one line for each thing that was repaired, left out, or should be known of the input.
    """

    kind: Kind
    classes: tuple[str, ...]
    pred: Side
    ref: Side
    area: StudyArea
    extent: Extent
    grid: GeoBox
    pixel_m: float
    object_m: float
    tolerance_m: float
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Read:
    """Both sides as read, each in its own CRS, and the raster that the reference was made from, if any."""

    pred: Objects
    ref: Objects
    kind: Kind
    raster: RasterReference | None


def build_comparison(request: Request) -> Comparison:
    """Read both sides and bring them together.

    Raises:
        EvaluateError: the two have nothing to compare.
        LayerError: a vector layer cannot be read.
        NoGeoreference: the place of a file on the ground is unknown.
    """
    both = _read(request)
    scene = None if request.scene is None else read_grid(request.scene)
    area, crs_note = _choose_area(request, both, scene)
    pred_objects, ref_objects = both.pred.to(area.crs), both.ref.to(area.crs)
    classes, of_pred, of_ref, class_warnings = _common_classes(pred_objects, ref_objects)
    pred, ref = _side(pred_objects, of_pred, area), _side(ref_objects, of_ref, area)
    if not len(ref):
        raise EvaluateError(
            f"{both.ref.name} has no object on the ground to compare; check AOI, scene and ignore layer"
        )
    object_m = _typical_side(ref, both.kind)
    extent = frame(area, pred.seen, ref.seen)
    given = scene if both.raster is None else both.raster.grid
    grid = given or metric_grid(extent, area.crs, object_m)
    pixel_m = gsd_m(grid)
    tolerance_m, reason = _tolerance(request, both.kind, pixel_m if given else None, object_m)
    notes = [f"measured in {crs_note}", f"tolerance {tolerance_m:.3g} m ({reason})"]
    if both.kind == "polygons":
        notes.append(f"pixels of {pixel_m:.3g} m")
        notes += ["objects that touch count as one"] * (request.touching == "joined")
    if both.raster is not None:
        notes += [both.raster.note, "its outlines are those of its pixels: the vertex ratio says little"]
    warnings = (*pred_objects.warnings, *ref_objects.warnings, *class_warnings, *_stray(pred, ref, both, extent))
    return Comparison(
        both.kind, classes, pred, ref, area, extent, grid, pixel_m, object_m, tolerance_m, tuple(notes), warnings
    )


def input_text(source: LayerInput) -> str:
    """Return a source as reports write it: its path, or 'GeoDataFrame'."""
    return str(source) if isinstance(source, str | Path) else "GeoDataFrame"


def _read(request: Request) -> _Read:
    pred = layers.open_layer(request.pred, "the prediction")
    if is_raster(request.ref):
        path = Path(str(request.ref))
        known = layers.classes_of(pred, request.label_column, {})[0]
        raster = read_reference(path, request.raster, frozenset() if known is None else frozenset(known))
        ref = read_layer(raster.table, name=path.name, empty_ok=True)
    else:
        raster, ref = None, layers.open_layer(request.ref, "the reference")
    if not len(ref.rows):
        raise EvaluateError(f"{ref.name} holds no objects; give a reference with objects in it")
    layers.check_column(request.label_column, (pred, ref))
    kind = layers.kind_of(ref)
    settings = request.label_column, request.rename, request.touching
    of_pred, of_ref = (layers.objects_of(one, kind, *settings) for one in (pred, ref))
    return _Read(of_pred, of_ref, kind, raster)


def _choose_area(request: Request, both: _Read, scene: GeoBox | None) -> tuple[StudyArea, str]:
    """Return the area to compare on, and one line that says in which CRS."""
    areas = [] if request.aoi is None else [layers.read_region(request.aoi, "the AOI")]
    if request.scene is not None and scene is not None:
        areas.append(Region.of_grid(scene, Path(request.scene).name))
    ignored = [] if request.ignore is None else [layers.read_region(request.ignore, "the ignore layer")]
    if both.raster is not None:
        areas.append(Region.of_grid(both.raster.grid, both.ref.name))
        ignored.append(Region("pixels without data", both.raster.unknown, crs_of(both.raster.grid)))
    if len(both.pred):
        check_overlap(both.pred.region, both.ref.region)
    return choose_area(both.ref.region, areas, ignored)


def _side(objects: Objects, classes: np.ndarray, area: StudyArea) -> Side:
    inside, seen = area.cut(objects.geometry)
    measure = shapely.length if (shapely.get_dimensions(objects.geometry) == 1).any() else shapely.area
    size_inside, size_seen = measure(inside), measure(seen)
    there = size_seen > 0
    return Side(
        whole=objects.geometry[there],
        seen=seen[there],
        classes=classes[there],
        scores=None if objects.scores is None else objects.scores[there],
        rows=objects.rows[there],
        ignored=(size_seen < size_inside / 2)[there],
        skipped=int(((size_inside > 0) & ~there).sum()),
    )


def _common_classes(pred: Objects, ref: Objects) -> tuple[tuple[str, ...], np.ndarray, np.ndarray, tuple[str, ...]]:
    """Return (names, class of each predicted object, class of each reference object, warnings)."""
    alone = (ANY,), np.zeros(len(pred), int), np.zeros(len(ref), int)
    if pred.classes is None or ref.classes is None:
        known = ref.classes if pred.classes is None else pred.classes
        if known is None or not len(pred) or len(set(known)) == 1:
            return *alone, ()
        other = pred if pred.classes is None else ref
        return *alone, (f"{other.name} has no class column: all rows are compared as one class",)
    of_pred, of_ref = set(pred.classes), set(ref.classes)
    if of_pred and not of_pred & of_ref:
        if len(of_pred) == len(of_ref) == 1:
            pair = f"the class is '{of_pred.pop()}' in {pred.name} and '{of_ref.pop()}' in {ref.name}: taken for one"
            return *alone, (pair,)
        example = json.dumps({min(of_ref): min(of_pred)}, ensure_ascii=False)
        raise EvaluateError(
            f"no class in common: {pred.name} has {_listed(of_pred)}; {ref.name} has {_listed(of_ref)}; "
            f"rename them, as --rename '{example}', or name the column that holds the classes "
            "(--label-column)"
        )
    names = tuple(sorted(of_pred | of_ref))
    place = {name: number for number, name in enumerate(names)}
    alone_in = ((pred.name, "false", of_pred - of_ref), (ref.name, "missed", of_ref - of_pred if of_pred else set()))
    warnings = tuple(f"only in {name}, so all {so}: {_listed(them)}" for name, so, them in alone_in if them)
    pred_numbers, ref_numbers = (np.array([place[n] for n in known], int) for known in (pred.classes, ref.classes))
    return names, pred_numbers, ref_numbers, warnings


def _listed(names: set[str]) -> str:
    some = sorted(names)
    return ", ".join(some[:10]) + (f" and {len(some) - 10} more" if len(some) > 10 else "")


def _stray(pred: Side, ref: Side, both: _Read, extent: Extent) -> tuple[str, ...]:
    """Return a warning where predicted objects lie where the reference has nothing at all."""
    if not len(pred):
        return (f"{both.pred.name} has no object on the ground to compare: everything is missed",)
    beyond = ~shapely.intersects(shapely.box(*shapely.total_bounds(ref.seen)), pred.seen)
    if not beyond.any():
        return ()
    where = (
        f"{beyond.sum()} of {len(pred)} predicted objects lie outside the extent of the reference and count as false"
    )
    far = ~shapely.intersects(shapely.box(*extent), pred.seen)
    pixels = f"; {far.sum()} of them are too far away for their pixels to be counted" if far.any() else ""
    return (f"{where}: give an AOI where it does not look there{pixels}",)


def _typical_side(ref: Side, kind: Kind) -> float:
    """Return the side (m) of a square as large as the median object; for lines their median length."""
    if kind == "lines":
        return float(np.median(shapely.length(ref.seen)))
    return math.sqrt(np.median(shapely.area(ref.seen)))


def _tolerance(request: Request, kind: Kind, gsd: float | None, object_m: float) -> tuple[float, str]:
    """Return the tolerance (m) and the reason for it; `gsd` is that of the scene or raster, if there is one."""
    if request.tolerance_m is not None:
        return request.tolerance_m, "as asked"
    if kind == "lines":
        return (_LINE_TOLERANCE_M, "usual for roads") if gsd is None else (max(3 * gsd, 1.0), "3 pixels, 1 m at least")
    if gsd is not None:
        return 2 * gsd, "2 pixels"
    return float(f"{object_m / 20:.2g}"), "a twentieth of the side of the median reference object"
