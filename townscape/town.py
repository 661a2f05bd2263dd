"""A rendered town with its truth: planned from a seed, painted as a photograph from above, georeferenced."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize

from townscape.layout import plan_town
from townscape.paint import paint
from townscape.plan import Plan

CRS = "EPSG:32645"
ORIGIN = (354_000, 3_057_000)
"""A point near Banepa, Nepal; the upper left corner of a scene lies within 20 km of it east and north."""

_MISSES_M = 0.5
"""An end of a street that is so near to another street leads to it."""


@dataclass(frozen=True)
class Town:
    """A rendered scene and its ground truth."""

    image: np.ndarray
    """(3, H, W) uint8, RGB."""
    buildings: gpd.GeoDataFrame
    """Roof outlines in the geobox's CRS, with `kind` and `height_m` (eaves above ground). The outline is the whole
    roof's, even where a tree hides a little of its edge."""
    geobox: GeoBox
    """North-up, its origin on whole metres."""
    roads: gpd.GeoDataFrame
    """Middles of the streets inside the scene in the geobox's CRS, which meet where streets meet, with `width_m` and
    `paved`."""

    def instances(self) -> np.ndarray:
        """Return (H, W) int32: k where the roof of building k - 1 covers the pixel's centre, 0 for none."""
        shapes = [(geometry, i + 1) for i, geometry in enumerate(self.buildings.geometry)][::-1]  # the earlier one wins
        if not shapes:
            return np.zeros(self.geobox.shape, np.int32)
        return np.asarray(
            rasterize(shapes, out_shape=self.geobox.shape, transform=self.geobox.transform, dtype="int32")
        )

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write the scene, its buildings and its roads, each file whole or not at all.

        `town.tif` (tiled, deflate), `town_truth.gpkg` and `town_roads.gpkg`.

        Returns:
            the paths of the first two.

        Args:
            folder: made if it is not there.

        Raises:
            OSError: the folder cannot be made or written to.
        """
        folder.mkdir(parents=True, exist_ok=True)
        tif, gpkg, roads = folder / "town.tif", folder / "town_truth.gpkg", folder / "town_roads.gpkg"
        profile = {
            "driver": "GTiff", "count": 3, "dtype": "uint8", "height": self.geobox.height, "width": self.geobox.width,
            "crs": str(self.geobox.crs), "transform": self.geobox.transform, "photometric": "RGB",
            "tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate", "predictor": 2,
        }  # fmt: skip
        with tempfile.TemporaryDirectory(dir=folder, prefix=".town") as beside:
            with rasterio.open(Path(beside) / tif.name, "w", **profile) as target:
                target.write(self.image)
            self.buildings.to_file(Path(beside) / gpkg.name, driver="GPKG", layer="buildings")
            self.roads.to_file(Path(beside) / roads.name, driver="GPKG", layer="roads")
            os.replace(Path(beside) / tif.name, tif)
            os.replace(Path(beside) / gpkg.name, gpkg)
            os.replace(Path(beside) / roads.name, roads)
        return tif, gpkg


def render_town(
    size_px: int | tuple[int, int] = 1024, gsd_m: float = 0.3, seed: int = 0, density: float | None = None
) -> Town:
    """Render a town; the same arguments give the same town.

    Args:
        size_px: side, or (height, width), of the scene in pixels.
        gsd_m: ground sampling distance, metres a pixel.
        seed: chooses everything: plan, style of the region, sun, camera.
        density: 0 (hamlet among fields) to 1 (dense informal settlement); None lets the seed draw it.

    Raises:
        ValueError: a size, ground sampling distance or density out of range.
    """
    shape = (size_px, size_px) if isinstance(size_px, int) else size_px
    if min(shape) < 1 or not gsd_m > 0 or not (density is None or 0 <= density <= 1):
        raise ValueError(f"need size_px >= 1, gsd_m > 0 and 0 <= density <= 1, got {size_px}, {gsd_m}, {density}")
    rng = np.random.default_rng(seed)
    drawn = float(rng.uniform(0, 1))
    plan = plan_town(shape, gsd_m, drawn if density is None else density, rng)
    image, _ = paint(plan, rng)
    x0, y0 = np.array(ORIGIN) + rng.integers(-20_000, 20_000, 2)
    geobox = GeoBox(shape, Affine(gsd_m, 0, float(x0), 0, -gsd_m, float(y0)), CRS)
    roofs = gpd.GeoSeries([h.roof for h in plan.houses], crs=CRS).translate(float(x0), float(y0) - shape[0] * gsd_m)
    columns = {"kind": [h.kind for h in plan.houses], "height_m": [round(h.height_m, 2) for h in plan.houses]}
    buildings = gpd.GeoDataFrame(columns, geometry=roofs, crs=CRS)
    return Town(image, buildings, geobox, _roads(plan, float(x0), float(y0)))


def _roads(plan: Plan, x0: float, y0: float) -> gpd.GeoDataFrame:
    """Return the middles of a plan's streets, clipped to the scene whose upper left corner is at x0, y0."""
    tall, wide = plan.shape_px[0] * plan.gsd_m, plan.shape_px[1] * plan.gsd_m
    columns = {"width_m": [s.width_m for s in plan.streets], "paved": [s.paved for s in plan.streets]}
    streets = gpd.GeoDataFrame(columns, geometry=[s.line for s in plan.streets]).explode(ignore_index=True)
    inside = streets.set_geometry(_meeting(streets.geometry.to_numpy())).clip(shapely.box(0, 0, wide, tall), sort=True)
    inside = inside[inside.geom_type.isin(["LineString", "MultiLineString"])].explode(ignore_index=True)
    return inside.set_geometry(inside.translate(x0, y0 - tall).set_crs(CRS))


def _meeting(lines: np.ndarray) -> np.ndarray:
    """Return streets (n,) whose ends lie on the street that they lead to.

    The plan is bent street by street, at other vertices: an end misses by some centimetres.
    """
    met, tree = lines.copy(), shapely.STRtree(lines)
    for number, line in enumerate(lines):
        vertices = shapely.get_coordinates(line)
        for end in (0, -1):
            tip = shapely.Point(vertices[end])
            near = tree.query(tip, predicate="dwithin", distance=_MISSES_M)
            others = lines[near[near != number]]
            if len(others):
                other = others[np.argmin(shapely.distance(others, tip))]
                vertices[end] = shapely.get_coordinates(other.interpolate(other.project(tip)))[0]
        met[number] = shapely.LineString(vertices)
    return met
