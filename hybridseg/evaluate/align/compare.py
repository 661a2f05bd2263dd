"""Two layers brought together: one CRS, one set of classes, the ground that counts, and a grid of pixels over it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from odc.geo.geobox import GeoBox

from hybridseg.errors import EvaluateError
from hybridseg.evaluate.align import ground as grounds
from hybridseg.evaluate.align import layers
from hybridseg.evaluate.align.ground import Ground, Region
from hybridseg.evaluate.align.layers import Features, Kind, Vectors
from hybridseg.evaluate.align.metric import Bounds
from hybridseg.evaluate.align.rasters import RasterKind, RasterReference, crs_of, is_raster, read_grid, read_reference
from hybridseg.read.ground import gsd_m

ANY = "object"
"""The one class where classes are not compared."""

_LINE_TOLERANCE_M = 5.0


@dataclass(frozen=True)
class Side:
    """The objects of one side that lie on the ground to compare, in the metric CRS.

    whole: (n,) geometries as they were given.
    seen: (n,) their part on ground that counts; none is empty.
    classes: (n,) int, positions in `Comparison.classes`.
    scores: (n,) float64 or None.
    rows: (n,) int, positions in the file.
    ignored: (n,) bool, more than half of it lies in an ignore region.
    skipped: how many lie in ignore regions entirely; they are not among the n.
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

    kind: polygons or lines.
    classes: names; one where classes are not compared.
    bounds: extent to lay blocks over, in the metric CRS.
    grid: the pixels to count on.
    pixel_m: their side on the ground (m).
    object_m: side of a square as large as the median reference object, or the median length of lines (m).
    tolerance_m: at which boundaries agree.
    notes, warnings: one line each.
    """

    kind: Kind
    classes: tuple[str, ...]
    pred: Side
    ref: Side
    ground: Ground
    bounds: Bounds
    grid: GeoBox
    pixel_m: float
    object_m: float
    tolerance_m: float
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Read:
    """Both sides as read, each in its own CRS, and the raster that the reference came from."""

    pred: Features
    ref: Features
    kind: Kind
    mask: RasterReference | None


def compare(
    pred_source: Vectors,
    ref_source: Vectors,
    scene: str | Path | None = None,
    aoi: Vectors | None = None,
    ignore: Vectors | None = None,
    label_column: str | None = None,
    rename: Mapping[str, str] | None = None,
    raster: RasterKind = "auto",
    tolerance_m: float | None = None,
) -> Comparison:
    """Read both sides and bring them together; the arguments are those of `hybridseg.evaluate.run.evaluate`.

    Raises:
        EvaluateError: a file cannot be read, or the two have nothing to compare.
        NoGeoreference: a file's place on the ground is unknown.
    """
    both = _read(pred_source, ref_source, label_column, rename or {}, raster)
    given = _given_grid(both, scene)
    areas = _areas(both, scene, aoi)
    ignored = [] if ignore is None else [grounds.region(ignore, "the ignore layer")]
    if both.mask is not None:
        ignored.append(Region("pixels without data", both.mask.unknown, crs_of(both.mask.grid)))
    if len(both.pred):
        grounds.check_overlap(grounds.extent(both.pred), grounds.extent(both.ref))
    ground, note = grounds.choose_ground(both.ref, areas, ignored)

    pred, ref = both.pred.to(ground.crs), both.ref.to(ground.crs)
    classes, of_pred, of_ref, class_warnings = _common_classes(pred, ref)
    found, truth = _side(pred, of_pred, ground), _side(ref, of_ref, ground)
    if not len(truth):
        raise EvaluateError(
            f"{both.ref.name} has no object on the ground to compare; check AOI, scene and ignore layer"
        )
    side_m = _typical_side(truth, both.kind)
    bounds = grounds.frame(ground, found.seen, truth.seen)
    grid = given or grounds.metric_grid(bounds, ground.crs, side_m)
    gsd = gsd_m(grid)
    tolerance, reason = _tolerance(tolerance_m, both.kind, gsd if given else None, side_m)
    notes = (
        f"measured in {note}",
        f"tolerance {tolerance:.3g} m ({reason})",
        *((f"pixels of {gsd:.3g} m",) if both.kind == "polygons" else ()),
        *((both.mask.note, "its outlines are those of its pixels: the vertex ratio says little") if both.mask else ()),
    )
    warnings = (*pred.warnings, *ref.warnings, *class_warnings, *_coverage(found, truth, both, bounds))
    return Comparison(both.kind, classes, found, truth, ground, bounds, grid, gsd, side_m, tolerance, notes, warnings)


def _read(pred: Vectors, ref: Vectors, column: str | None, rename: Mapping[str, str], raster: RasterKind) -> _Read:
    pred_table, pred_name, pred_said = layers.read_table(pred, "the prediction")
    mask, ref_said = None, pred_said[:0]
    if is_raster(ref):
        known = layers.classes_of(pred_table, pred_name, column, {})[0]
        mask = read_reference(str(ref), raster, frozenset() if known is None else frozenset(known))
        ref_table, ref_name = mask.table, Path(str(ref)).name
    else:
        ref_table, ref_name, ref_said = layers.read_table(ref, "the reference")
    if not len(ref_table):
        raise EvaluateError(f"{ref_name} holds no objects; give a reference with objects in it")
    layers.check_column(column, {pred_name: pred_table, ref_name: ref_table})
    kind = layers.kind_of(ref_table, ref_name)
    found = layers.features(pred_table, pred_name, kind, column, rename, pred_said)
    return _Read(found, layers.features(ref_table, ref_name, kind, column, rename, ref_said), kind, mask)


def _given_grid(both: _Read, scene: str | Path | None) -> GeoBox | None:
    """The reference's own pixels, or else the scene's."""
    if both.mask is not None:
        return both.mask.grid
    return None if scene is None else read_grid(scene)


def _areas(both: _Read, scene: str | Path | None, aoi: Vectors | None) -> list[Region]:
    areas = [] if aoi is None else [grounds.region(aoi, "the AOI")]
    if scene is not None:
        areas.append(grounds.footprint(read_grid(scene), Path(scene).name))
    if both.mask is not None:
        areas.append(grounds.footprint(both.mask.grid, both.ref.name))
    return areas


def _side(layer: Features, classes: np.ndarray, ground: Ground) -> Side:
    inside, seen = ground.seen(layer.geometry)
    measure = shapely.length if (shapely.get_dimensions(layer.geometry) == 1).any() else shapely.area
    in_area, counted = measure(inside), measure(seen)
    there = counted > 0
    return Side(
        whole=layer.geometry[there],
        seen=seen[there],
        classes=classes[there],
        scores=None if layer.scores is None else layer.scores[there],
        rows=layer.rows[there],
        ignored=(counted < in_area / 2)[there],
        skipped=int(((in_area > 0) & ~there).sum()),
    )


def _common_classes(pred: Features, ref: Features) -> tuple[tuple[str, ...], np.ndarray, np.ndarray, tuple[str, ...]]:
    """(names, class of each predicted object, class of each reference object, warnings)."""
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
            said = f"the class is '{of_pred.pop()}' in {pred.name} and '{of_ref.pop()}' in {ref.name}: taken for one"
            return *alone, (said,)
        raise EvaluateError(
            f"no class in common: {pred.name} has {_listed(of_pred)}; {ref.name} has {_listed(of_ref)}; "
            f"rename them, as --rename '{_example(of_ref, of_pred)}', or name the column that holds the classes "
            "(--label-column)"
        )
    names = tuple(sorted(of_pred | of_ref))
    place = {name: number for number, name in enumerate(names)}
    alone_in = ((pred.name, "false", of_pred - of_ref), (ref.name, "missed", of_ref - of_pred if of_pred else set()))
    warnings = tuple(f"only in {name}, so all {so}: {_listed(them)}" for name, so, them in alone_in if them)
    return (
        names,
        np.array([place[c] for c in pred.classes], int),
        np.array([place[c] for c in ref.classes], int),
        warnings,
    )


def _example(old: set[str], new: set[str]) -> str:
    """As `rename` takes it."""
    return json.dumps({min(old): min(new)}, ensure_ascii=False)


def _listed(names: set[str]) -> str:
    some = sorted(names)
    return ", ".join(some[:10]) + (f" and {len(some) - 10} more" if len(some) > 10 else "")


def _coverage(found: Side, truth: Side, both: _Read, bounds: Bounds) -> tuple[str, ...]:
    """Say so where much of the prediction lies where the reference has nothing at all."""
    if not len(found):
        return (f"{both.pred.name} has no object on the ground to compare: everything is missed",)
    beyond = ~shapely.intersects(shapely.box(*shapely.total_bounds(truth.seen)), found.seen)
    if not beyond.any():
        return ()
    where = (
        f"{beyond.sum()} of {len(found)} predicted objects lie outside the extent of the reference and count as false"
    )
    far = ~shapely.intersects(shapely.box(*bounds), found.seen)
    pixels = f"; {far.sum()} of them are too far away for their pixels to be counted" if far.any() else ""
    return (f"{where}: give an AOI where it does not look there{pixels}",)


def _typical_side(truth: Side, kind: Kind) -> float:
    """Side (m) of a square as large as the median object; for lines their median length."""
    return (
        math.sqrt(np.median(shapely.area(truth.seen)))
        if kind == "polygons"
        else float(np.median(shapely.length(truth.seen)))
    )


def _tolerance(asked: float | None, kind: Kind, gsd: float | None, side_m: float) -> tuple[float, str]:
    if asked is not None:
        if not asked > 0:
            raise EvaluateError(f"the tolerance is {asked} m; give metres above 0")
        return asked, "as asked"
    if kind == "lines":
        return (_LINE_TOLERANCE_M, "usual for roads") if gsd is None else (max(3 * gsd, 1.0), "3 pixels, 1 m at least")
    if gsd is not None:
        return 2 * gsd, "2 pixels"
    return float(f"{side_m / 20:.2g}"), "a twentieth of the side of the median reference object"
