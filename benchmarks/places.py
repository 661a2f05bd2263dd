"""Labelled places as scenes with references: those that trained no weight, which `make scores` quotes, and some more.

Tiles without georeference are laid out on one raster, apart from each other, so that a data set is one scene.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
import shapely
from affine import Affine
from PIL import Image
from rasterio.features import shapes

from hybridseg.folders import configs_folder
from hybridseg.labels.labelled import Labelled
from hybridseg.read.opening import open_scene
from hybridseg.types import Extent

CRS = "EPSG:32631"
GAP_PX = 64


@dataclass(frozen=True)
class Place(Labelled):
    """A labelled scene of a theme.

    trained: weights were trained on it; it helps to choose thresholds for the others and is not quoted.
    """

    theme: str = ""
    trained: bool = False


def places(data: Path, work: Path) -> list[Place]:
    """All of them. data: the folder of labelled imagery; work: gets the rasters that are laid out."""
    # web map tile column x = 386695 at zoom 19
    column = (9520308.309970, 3202329.3, 9520384.746976, 3202940.8)
    tiles = _Tiles(data, work)
    return [
        _scene(data, "Banepa, val column", "buildings", "banepa_z19.tif", "banepa_buildings.geojson", column),
        _scene(data, "Kampala west", "buildings", "kampala_west_z20.tif", "kampala_west_buildings.geojson"),
        tiles("Dhaka", "buildings", lambda r: r["dataset"] == "dhaka_oam", 0.27),
        tiles("Kitsap", "buildings", lambda r: r["place"] == "Kitsap US", 0.3),
        tiles("Vienna", "buildings", lambda r: r["place"] == "Vienna Austria", 0.3),
        tiles("Khartoum", "buildings", lambda r: r["place"] == "Khartoum Sudan", 0.3),
        tiles("California, 10sfg", "buildings", lambda r: r["dataset"] == "california_pv", 0.3, labels="buildings"),
        tiles("California, 10sfg", "solar", lambda r: r["dataset"] == "california_pv", 0.3),
        tiles("California, 10sfh", "solar", lambda r: r["place"] == "California 10sfh", 0.3, trained=5),
        tiles("NAIP Midwest, 1 m", "fields", lambda r: r["dataset"] == "naip_fields" and r["gsd_m"] == "1.0", 1.0),
        _scene(data, "Denmark, Sentinel-2", "fields", "denmark_s2_fields.tif", "denmark_s2_fields.gpkg"),
        tiles("Dubai scene 2", "water", lambda r: r["dataset"] == "dubai", 1.0, code=3),
        tiles("Massachusetts", "water", lambda r: r["dataset"] == "massachusetts_roads", 1.0, code=2, labels="water"),
        tiles("Dubai scene 1", "water", lambda r: r["place"] == "dubai scene 1", 1.0, code=3, trained=1),
        tiles("Massachusetts", "roads", lambda r: r["dataset"] == "massachusetts_roads", 1.0, code=1),
        tiles("Dubai scene 2", "roads", lambda r: r["dataset"] == "dubai", 1.0, code=2),
        tiles("Khartoum", "roads", lambda r: r["dataset"] == "spacenet2_chips", 0.3, code=2, labels="roads"),
        tiles("California, 10sfg", "roads", lambda r: r["dataset"] == "california_pv", 0.3, code=2, labels="roads"),
        tiles("Kitsap and Vienna", "roads", lambda r: r["dataset"] == "inria_crops", 0.3, code=2, labels="roads"),
    ]


def training_places(data: Path, work: Path, theme: str) -> list[Place]:
    """Places that trained the classifier of buildings or fields, those with many tiles in part."""
    tiles = _Tiles(data, work)
    if theme == "fields":
        kinds = [("naip_fields", "1.0"), ("naip_fields", "2.0")]
        return [
            tiles(f"NAIP, {k[1]} m", theme, lambda r, k=k: (r["dataset"], r["gsd_m"]) == k, float(k[1]), trained=1)
            for k in kinds
        ]
    sets = [("banepa", 0.13, 2), ("banepa_south", 0.15, 1), ("zanzibar", 0.15, 3)]
    chips = ["Austin US", "Chicago US", "Tyrol Austria", "Paris France", "Shanghai China", "Christchurch New Zealand"]
    drawn = ["California 11ska", "California 10sfh"]
    return [
        *(tiles(s, theme, lambda r, s=s: r["dataset"] == s, gsd_m, trained=every) for s, gsd_m, every in sets),
        *(tiles(name, theme, lambda r, name=name: r["place"] == name, 0.3, trained=1) for name in chips),
        *(tiles(n, theme, lambda r, n=n: r["place"] == n, 0.3, trained=2, labels="buildings") for n in drawn),
    ]


def _scene(data: Path, name: str, theme: str, scene: str, reference: str, extent: Extent | None = None) -> Place:
    path = data / "scenes" / scene
    with rasterio.open(path) as file:
        crs, bounds = file.crs, file.bounds
    truth = gpd.read_file(data / "scenes" / reference).to_crs(crs)
    return Place(open_scene(path), truth[["geometry"]], shapely.box(*(extent or bounds)), extent, name, theme)


@dataclass(frozen=True)
class _Tiles:
    data: Path
    work: Path

    def __call__(
        self,
        name: str,
        theme: str,
        mine: Callable[[dict[str, str]], bool],
        gsd_m: float,
        code: int | None = None,
        trained: int = 0,
        labels: str = "",
    ) -> Place:
        """The val tiles of a data set side by side.

        code: the class's code where labels are codes, not instances; trained: every so many of the train tiles instead;
        labels: folder under configs/labels whose labels count instead, for the tiles that it has; 255 is unknown, of
            codes 0.
        """
        split = "train" if trained else "val"
        with (self.data / "tiles.csv").open() as file:
            rows = [r for r in csv.DictReader(file) if r["split"] == split and mine(r)][:: trained or 1]
        if labels:
            own = configs_folder() / "labels" / labels
            rows = [r | {"label": own / r["dataset"] / f"{Path(r['image']).stem}.png"} for r in rows]
            rows = [r for r in rows if Path(r["label"]).exists()]
        images = [np.asarray(Image.open(self.data / r["image"]).convert("RGB")) for r in rows]
        layers = [np.asarray(Image.open(self.data / r["label"])).astype(np.int32) for r in rows]
        step = max(max(i.shape[:2]) for i in images) + GAP_PX
        across = int(np.ceil(np.sqrt(len(rows))))
        size = (step * int(np.ceil(len(rows) / across)), step * across)
        affine = Affine(gsd_m, 0, 500_000, 0, -gsd_m, 4_000_000)
        canvas, valid = np.zeros((3, *size), np.uint8), np.zeros(size, np.uint8)
        truth, areas = [], []
        for k, (image, label) in enumerate(zip(images, layers, strict=True)):
            top, left = step * (k // across), step * (k % across)
            height, width = label.shape
            canvas[:, top : top + height, left : left + width] = image.transpose(2, 0, 1)
            valid[top : top + height, left : left + width] = 255
            own = affine @ Affine.translation(left, top)
            unsure = (label == 255) if labels else np.zeros(label.shape, bool)
            wanted = (label > 0) & ~unsure if code is None else label == code
            found = shapes(label if code is None else wanted.astype(np.int32), mask=wanted, transform=own)
            truth += [shapely.geometry.shape(geometry) for geometry, _ in found]
            known = ~unsure if code in (None, 1) else label > 0
            areas += [shapely.geometry.shape(g) for g, _ in shapes(known.astype(np.uint8), mask=known, transform=own)]
        path = self.work / f"{theme}-{name.replace(' ', '-').replace(',', '').lower()}.tif"
        profile = {"driver": "GTiff", "height": size[0], "width": size[1], "count": 3, "dtype": "uint8"}
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
            rasterio.open(path, "w", **profile, crs=CRS, transform=affine, photometric="rgb", tiled=True) as file,
        ):
            file.write(canvas)
            file.write_mask(valid)
        truths = gpd.GeoDataFrame(geometry=truth, crs=CRS)
        return Place(open_scene(path), truths, shapely.union_all(areas), None, name, theme, trained > 0)
