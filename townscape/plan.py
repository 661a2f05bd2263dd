"""The plan of a town as values: streets, plots, houses, and how the region looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shapely import Polygon
from shapely.geometry.base import BaseGeometry

Rgb = tuple[float, float, float]
Wing = tuple[float, float, float, float]
"""A rectangle on a house's own axes: x, y of its centre, length, depth (m)."""


@dataclass(frozen=True, kw_only=True)
class Style:
    """How a region looks."""

    soil: Rgb
    """Colour of bare ground, sRGB 0..255."""
    grass: Rgb
    """Colour of grown ground, sRGB 0..255."""
    roofs: dict[str, float]
    """Weights of the roof materials, names of `townscape.roofs.ROOFS`."""
    flat: float
    """Share of flat roofs among the white ones; above a half, houses also have more storeys."""
    hip: float
    """Share of hip roofs among the pitched ones."""
    palms: float
    """Share of palms among the trees."""
    lush: float
    """Balance of soil (negative) and grass (positive), about -1 to 1."""


HILL_TOWN = Style(
    soil=(158, 138, 112),
    grass=(104, 116, 66),
    roofs={"concrete": 6, "metal": 3, "blue": 1.2, "tile": 1, "rust": 1.5, "red": 0.6},
    flat=0.85,
    hip=0.2,
    palms=0.02,
    lush=-0.1,
)
INFORMAL_SETTLEMENT = Style(
    soil=(150, 112, 88),
    grass=(92, 112, 62),
    roofs={"metal": 5, "rust": 6, "white": 1, "blue": 0.3, "concrete": 0.4, "red": 0.4},
    flat=0.1,
    hip=0.1,
    palms=0.1,
    lush=-0.5,
)
COAST = Style(
    soil=(176, 156, 126),
    grass=(98, 116, 60),
    roofs={"metal": 4, "rust": 4, "thatch": 3, "white": 1.5, "concrete": 0.6},
    flat=0.15,
    hip=0.35,
    palms=0.6,
    lush=0.5,
)
TILED_VALLEY = Style(
    soil=(166, 142, 108),
    grass=(112, 124, 70),
    roofs={"tile": 6, "concrete": 2, "metal": 2, "rust": 1.5, "thatch": 0.8},
    flat=0.5,
    hip=0.3,
    palms=0.05,
    lush=0.1,
)
SUBURB = Style(
    soil=(172, 160, 138),
    grass=(108, 122, 74),
    roofs={"shingle": 6, "tile": 3, "white": 1, "metal": 0.6},
    flat=0.3,
    hip=0.65,
    palms=0.15,
    lush=0.9,
)
DRY_COUNTRY = Style(
    soil=(196, 178, 148),
    grass=(126, 130, 86),
    roofs={"concrete": 6, "white": 3, "tile": 0.6, "metal": 1},
    flat=0.95,
    hip=0.3,
    palms=0.3,
    lush=-1.1,
)
STYLES = (HILL_TOWN, INFORMAL_SETTLEMENT, COAST, TILED_VALLEY, SUBURB, DRY_COUNTRY)
"""Styles that a seed chooses from, by position: a new one goes last, or every seed gives another town."""


@dataclass(frozen=True)
class House:
    """One building."""

    roof: Polygon
    """Outline of the roof, in the plan's metres."""
    kind: str
    """Form of the ground plan: rect, L, T, U, courtyard, row, warehouse, round or shed."""
    height_m: float
    """Height of the eaves above the ground."""
    frame: tuple[float, float, float]
    """Origin x, y (m) and angle (radians) of the house's own axes."""
    wings: tuple[Wing, ...]
    """Rectangles that the house is made of."""
    form: str
    """Form of the roof: flat, gable, hip, mono or cone."""
    material: str
    """Material of the roof, a name of `townscape.roofs.ROOFS`."""


@dataclass(frozen=True)
class Street:
    """A piece of road: its centreline, width (m) and whether it is paved."""

    line: BaseGeometry
    width_m: float
    paved: bool


@dataclass(frozen=True)
class Plan:
    """Everything on the ground, in metres east and north of the scene's lower left corner."""

    shape_px: tuple[int, int]
    """Height and width of the picture."""
    gsd_m: float
    style: Style
    streets: Sequence[Street]
    plots: Sequence[tuple[Polygon, str]]
    """Plots as (polygon, use); the uses are yard, field, green, wood, bare and pond."""
    houses: Sequence[House]
