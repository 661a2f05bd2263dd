"""Which outlines of a date are which objects of the dates before: ground that an object held keeps its id."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

import numpy as np
import shapely
from affine import Affine
from rasterio.features import rasterize, shapes
from scipy import ndimage as ndi

LINK = 0.5
"""An outline of a date is an object's where they share so much of the smaller of the two."""
KEPT = 0.33
"""An object that is linked to no outline by `LINK`, as each of several lakes at low water that one outline takes in
holds less than half of it, is in those that cover so much of its ground."""
LEAST_CLAIM = 0.001
"""Of several objects that one outline takes in, those that hold less of it than this share of what the largest holds
are merged into that one."""
_CELLS = 400
"""Cells along the longer side of an outline that is divided."""


@dataclass
class Assigned:
    """What a date's outlines are.

    held: outline of each object found, by its number among those known.
    rows: the outlines of the date that it is made of, the largest part first.
    merged: object that took in another, by the number of the one taken in.
    fresh: rows of outlines that are of no object known.
    """

    held: dict[int, shapely.Geometry] = field(default_factory=dict)
    rows: dict[int, list[int]] = field(default_factory=dict)
    merged: dict[int, int] = field(default_factory=dict)
    fresh: list[int] = field(default_factory=list)


def assign(known: Sequence[Sequence[shapely.Geometry]], outlines: Sequence[shapely.Geometry]) -> Assigned:
    """Say which outlines of a date are which objects.

    An outline that takes in several objects is divided among them: what two dates saw as two is two. Of an object that
    lies in several outlines, all are its parts.

    Args:
        known: outlines of each object at the last dates at which it was there.
        outlines: of the date, in the same CRS; they do not overlap.
    """
    dates = np.array([*zip_longest(*known), (None,) * len(known)], object)  # a row of nothing: there may be no dates
    claims = _claims(shapely.union_all(dates, axis=0), outlines)
    pieces: dict[int, list[tuple[int, shapely.Geometry]]] = defaultdict(list)
    made = Assigned()
    for row, outline in enumerate(outlines):
        claimed = claims[row]
        if not claimed:
            made.fresh.append(row)
            continue
        largest = max(claimed, key=lambda number: (claimed[number], -number))
        claimants = sorted(number for number, area in claimed.items() if area >= LEAST_CLAIM * claimed[largest])
        made.merged |= dict.fromkeys(claimed.keys() - claimants, largest)
        for number, piece in _divide(outline, {number: known[number] for number in claimants}).items():
            pieces[number].append((row, piece))
    for number, found in pieces.items():
        found.sort(key=lambda one: -one[1].area)
        made.held[number] = shapely.union_all([piece for _, piece in found])
        made.rows[number] = [row for row, _ in found]
    made.merged = {number: into for number, into in made.merged.items() if number not in made.held}
    return made


def _claims(ground: np.ndarray, outlines: Sequence[shapely.Geometry]) -> list[dict[int, float]]:
    """Area that objects share with each outline, where it is enough to link them: by row, by number."""
    claims: list[dict[int, float]] = [{} for _ in outlines]
    found = np.array(outlines, object)
    numbers, rows = shapely.STRtree(found).query(ground, predicate="intersects")
    shared = shapely.area(shapely.intersection(ground[numbers], found[rows]))
    whole = shapely.area(ground)[numbers]
    linked = shared >= LINK * np.minimum(whole, shapely.area(found)[rows])
    linked |= (shared >= KEPT * whole) & ~np.isin(numbers, numbers[linked])
    for at in np.flatnonzero(linked & (shared > 0)).tolist():
        claims[int(rows[at])][int(numbers[at])] = float(shared[at])
    return claims


def _divide(outline: shapely.Geometry, among: Mapping[int, Sequence[shapely.Geometry]]) -> dict[int, shapely.Geometry]:
    """Parts of an outline; objects that get nothing are left out.

    A point is of the object that held it at most of the last dates, of several of the smallest; ground that none held
    of the nearest. Found on a grid of cells over the outline: GEOS's Voronoi cells of points on borders that lie in
    rows overlap.
    """
    if len(among) == 1:
        return dict.fromkeys(among, outline)
    left, bottom, right, top = outline.bounds
    cell = max(right - left, top - bottom) / _CELLS
    shape = (int(np.ceil((top - bottom) / cell)) + 2, int(np.ceil((right - left) / cell)) + 2)
    place = Affine(cell, 0, left - cell, 0, -cell, top + cell)
    by_size = sorted(among, key=lambda number: float(np.mean(shapely.area(np.array(among[number], object)))))
    holder, most = np.zeros(shape, np.int32), np.zeros(shape, np.uint8)
    for at, number in enumerate(by_size, start=1):
        burnt = (rasterize([one], shape, transform=place, all_touched=True, dtype=np.uint8) for one in among[number])
        dates = sum(burnt, np.zeros(shape, np.uint8))
        holder[dates > most] = at
        most = np.maximum(most, dates)
    nearest = holder[tuple(ndi.distance_transform_edt(holder == 0, return_distances=False, return_indices=True))]
    cells: dict[int, list[shapely.Geometry]] = defaultdict(list)
    for ground, at in shapes(nearest, transform=place):
        cells[by_size[int(at) - 1]].append(shapely.geometry.shape(ground))
    parts = {number: polygonal(shapely.union_all(ground).intersection(outline)) for number, ground in cells.items()}
    return {number: part for number, part in sorted(parts.items()) if part.area > 0}


def polygonal(geometry: shapely.Geometry) -> shapely.Geometry:
    """Return the polygons of a geometry, as one; an empty polygon where it has none."""
    parts = shapely.get_parts(shapely.get_parts(geometry))  # of collections, then of what is multiple in them
    polygons = parts[shapely.get_type_id(parts) == shapely.GeometryType.POLYGON]
    return shapely.union_all(polygons) if len(polygons) else shapely.Polygon()
