"""Which outlines of a date are which objects of the dates before: ground that an object held keeps its id."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import shapely
from affine import Affine
from rasterio.features import rasterize, shapes
from scipy import ndimage as ndi

LINK = 0.5
"""An outline of a date is an object's where they share so much of the smaller of the two."""
LEAST_CLAIM = 0.01
"""Of several objects that one outline takes in, those that hold less of it than this share of what the largest holds
are merged into that one."""
LEAST_FOUND = 2
"""An object that is absent claims ground beside one that is there only if it was found at so many dates: what was
found once may have been a mistake."""
_CELLS = 400
"""Cells along the longer side of an outline that is divided."""


@dataclass(frozen=True)
class Known:
    """An object as it was found before.

    outline: the ground that it held.
    there: whether it was present at the date before.
    found: number of dates at which it was found.
    """

    outline: shapely.Geometry
    there: bool
    found: int


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


def assign(known: Sequence[Known], outlines: Sequence[shapely.Geometry]) -> Assigned:
    """Say which outlines of a date are which objects.

    An outline that takes in several objects is divided among them, each point to the nearest: what two dates saw as
    two is two. Of an object that lies in several outlines, all are its parts.

    Args:
        known: objects of the dates before.
        outlines: of the date, in the same CRS; they do not overlap.
    """
    claims = _claims(known, outlines)
    pieces: dict[int, list[tuple[int, shapely.Geometry]]] = defaultdict(list)
    made = Assigned()
    for row, outline in enumerate(outlines):
        claimants, taken_in = _admitted(claims.get(row, {}), known)
        if not claimants:
            made.fresh.append(row)
            continue
        made.merged |= taken_in
        for number, piece in _divide(outline, {number: known[number].outline for number in claimants}).items():
            pieces[number].append((row, piece))
    for number, found in pieces.items():
        found.sort(key=lambda one: -one[1].area)
        made.held[number] = shapely.union_all([piece for _, piece in found])
        made.rows[number] = [row for row, _ in found]
    made.merged = {number: into for number, into in made.merged.items() if number not in made.held}
    return made


def _claims(known: Sequence[Known], outlines: Sequence[shapely.Geometry]) -> dict[int, dict[int, float]]:
    """Area that objects share with each outline, where it is enough to link them: by row, by number."""
    claims: dict[int, dict[int, float]] = defaultdict(dict)
    if not len(known) or not len(outlines):
        return claims
    held, found = np.array([one.outline for one in known]), np.array(outlines)
    numbers, rows = shapely.STRtree(found).query(held, predicate="intersects")
    shared = shapely.area(shapely.intersection(held[numbers], found[rows]))
    least = np.minimum(shapely.area(held[numbers]), shapely.area(found[rows]))
    for number, row, area, smaller in zip(numbers.tolist(), rows.tolist(), shared, least, strict=True):
        if area > 0 and area >= LINK * smaller:
            claims[row][number] = float(area)
    return claims


def _admitted(claims: Mapping[int, float], known: Sequence[Known]) -> tuple[list[int], dict[int, int]]:
    """The objects that share an outline, and those that are merged into the largest of them."""
    if not claims:
        return [], {}
    # where none is sure, the one that holds most
    sure = [number for number in claims if known[number].there or known[number].found >= LEAST_FOUND]
    admitted = sure or [max(claims, key=lambda n: (claims[n], -n))]
    largest = max(admitted, key=lambda n: (claims[n], -n))
    kept = sorted(n for n in admitted if claims[n] >= LEAST_CLAIM * claims[largest])
    return kept, {number: largest for number in claims if number not in kept}


def _divide(outline: shapely.Geometry, among: Mapping[int, shapely.Geometry]) -> dict[int, shapely.Geometry]:
    """Parts of an outline, each point to the object that is nearest to it; objects that get nothing are left out.

    Found on a grid of cells over the outline: GEOS's Voronoi cells of points on borders that lie in rows overlap.
    """
    if len(among) == 1:
        return dict.fromkeys(among, outline)
    left, bottom, right, top = outline.bounds
    cell = max(right - left, top - bottom) / _CELLS
    shape = (int(np.ceil((top - bottom) / cell)) + 2, int(np.ceil((right - left) / cell)) + 2)
    place = Affine(cell, 0, left - cell, 0, -cell, top + cell)
    by_size = sorted(among, key=lambda number: -among[number].area)  # a small one keeps its ground: the last is on top
    held = rasterize(
        [(among[number], at) for at, number in enumerate(by_size, start=1)], shape, transform=place, all_touched=True
    )
    nearest = held[tuple(ndi.distance_transform_edt(held == 0, return_distances=False, return_indices=True))]
    cells: dict[int, list[shapely.Geometry]] = defaultdict(list)
    for ground, at in shapes(nearest.astype(np.int32), transform=place):
        cells[by_size[int(at) - 1]].append(shapely.geometry.shape(ground))
    parts = {number: polygonal(shapely.union_all(ground).intersection(outline)) for number, ground in cells.items()}
    return {number: part for number, part in sorted(parts.items()) if part.area > 0}


def polygonal(geometry: shapely.Geometry) -> shapely.Geometry:
    """Return the polygons of a geometry, as one; an empty polygon where it has none."""
    parts = shapely.get_parts(shapely.get_parts(geometry))  # of collections, then of what is multiple in them
    polygons = parts[shapely.get_type_id(parts) == shapely.GeometryType.POLYGON]
    return shapely.union_all(polygons) if len(polygons) else shapely.Polygon()
