"""Malformed inputs of extract, by family: each function draws one, writes its files, and returns the command that takes them."""

from __future__ import annotations

import json
import math
import pickle
import shutil
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import rasterio
import shapely
import torch
import yaml
from affine import Affine
from rasterio.enums import ColorInterp

from hybridseg.folders import configs_folder
from hybridseg.run.extract import extract

EAST, NORTH, GSD_M = 512_345.25, 5_240_321.5, 0.3
HEIGHT, WIDTH = 96, 128
OUTPUTS = ("map.gpkg", "map.parquet", "map.fgb", "map.geojson", "map.tif")


@dataclass(frozen=True)
class Materials:
    """What cases are made from.

    image: (3, H, W) uint8.
    work: folder with prompts.parquet of a scene.
    model: folder of a classifier.
    """

    image: np.ndarray
    work: Path
    model: Path

    @classmethod
    def make(cls, folder: Path) -> Materials:
        """Make a scene with bright blocks, and what a run leaves of it."""
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(7)
        image = np.clip(rng.normal(70, 5, (3, HEIGHT, WIDTH)), 10, 250)
        for row, col in ((10, 12), (40, 70), (62, 20)):
            image[:, row : row + 22, col : col + 30] = rng.normal([[[190]], [[90]], [[80]]], 4, (3, 22, 30))
        image = image.astype(np.uint8)
        scene = write_scene(folder / "scene.tif", image)
        theme = folder / "eager.yaml"
        theme.write_text(
            "name: eager\nlabel: building\nclassifier: buildings-lite0\nobjects: {extent: 0.05, peak: 0.02, rise: 0.01, "
            "min_score: 0, min_area_m2: 0}\n"
        )
        extract(scene, None, theme=theme, refiner="none", run=folder, device="cpu", runtime="torch")
        model = configs_folder().parent / "models" / "buildings-lite0"
        return cls(image, folder, model)

    def draws(self, family: str, number: int, seed: int) -> np.random.Generator:
        """Random numbers of one case."""
        return np.random.default_rng([seed, zlib.crc32(family.encode()), number])


Rng = np.random.Generator
Make = Callable[[Rng, Path, Path, Materials], list[str]]


def pick(rng: Rng, values: Any) -> Any:
    """One of a few values, whatever their types."""
    return values[int(rng.integers(len(values)))]


def write_scene(
    path: Path, image: np.ndarray, affine: Affine | None = None, crs: Any = "EPSG:32633", **how: Any
) -> Path:
    """Write an image as a GeoTIFF, or another driver's file."""
    count, height, width = image.shape
    profile = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": image.dtype} | how
    affine = affine or Affine(GSD_M, 0, EAST, 0, -GSD_M, NORTH)
    with (
        warnings.catch_warnings(action="ignore"),
        rasterio.open(path, "w", **profile, transform=affine, crs=crs) as file,
    ):
        file.write(image)
        if count == 3 and profile["driver"] == "GTiff":
            file.colorinterp = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    return path


def damage(rng: Rng, path: Path) -> None:
    """Cut, flip, blank or fill bytes of a file."""
    data = bytearray(path.read_bytes())
    how = pick(rng, ("cut", "flip", "flip header", "blank", "noise", "append", "empty", "double"))
    size = len(data)
    if how == "cut":
        data = data[: int(rng.integers(size))]
    elif how in ("flip", "flip header"):
        within = size if how == "flip" else min(size, 400)
        for at in rng.integers(within, size=int(rng.integers(1, 40))):
            data[at] ^= 1 << int(rng.integers(8))
    elif how in ("blank", "noise"):
        at, length = int(rng.integers(size)), int(rng.integers(1, 4000))
        piece = bytes(length) if how == "blank" else rng.bytes(length)
        data[at : at + length] = piece[: max(0, size - at)]
    elif how == "append":
        data += rng.bytes(5000)
    elif how == "double":
        data = data * 2
    else:
        data = bytearray()
    path.write_bytes(bytes(data))


def command(scene: Path | str, rng: Rng, out: Path, *more: str) -> list[str]:
    """An extraction of coarse outlines."""
    return [
        "extract",
        str(scene),
        str(out / pick(rng, OUTPUTS)),
        "--refiner",
        "none",
        "--device",
        "cpu",
        "--runtime",
        "torch",
        *more,
    ]


# --- rasters ----------------------------------------------------------------------------------------------------------

FORMATS: dict[str, dict[str, Any]] = {
    "strips.tif": {},
    "tiled.tif": {"tiled": True, "blockxsize": 32, "blockysize": 32, "compress": "deflate"},
    "lzw.tif": {"compress": "lzw", "predictor": 2},
    "jpeg.tif": {"compress": "jpeg", "photometric": "ycbcr", "tiled": True, "blockxsize": 64, "blockysize": 64},
    "big.tif": {"bigtiff": "yes", "compress": "zstd"},
    "cog.tif": {"driver": "COG"},
    "image.png": {"driver": "PNG"},
    "image.jpg": {"driver": "JPEG"},
    "image.img": {"driver": "HFA"},
    "image.gpkg": {"driver": "GPKG"},
}


def rasters_damaged(rng: Rng, folder: Path, out: Path, materials: Materials) -> list[str]:
    """A raster with damaged bytes, or a mosaic of one."""
    name = pick(rng, (*FORMATS, "mosaic.vrt", "text.vrt"))
    if name.endswith(".vrt"):
        write_scene(folder / "tile.tif", materials.image)
        rasterio.shutil.copy(folder / "tile.tif", folder / name, driver="VRT")
        damage(rng, folder / ("tile.tif" if name == "mosaic.vrt" else name))
    else:
        write_scene(folder / name, materials.image, **FORMATS[name])
        damage(rng, folder / name)
    return command(folder / name, rng, out)


NUMBERS = (0.0, -1.0, 1.0, 1e-9, 1e-300, 1e9, 1e300, math.inf, -math.inf, math.nan, 5e-324, 2.5, -0.0)
SYSTEMS = (
    "EPSG:4326", "EPSG:3857", "EPSG:4978", "EPSG:5773", "EPSG:3031", "EPSG:2193", "EPSG:2263", "EPSG:4807", "EPSG:27700",
    "EPSG:9707", "EPSG:3413", "EPSG:32760", "EPSG:4087", "IAU_2015:30100", "ESRI:54009", "ESRI:102001",
    "+proj=ob_tran +o_proj=longlat +o_lon_p=0 +o_lat_p=39 +lon_0=18 +to_meter=0.0174532925199433",
    "+proj=geos +h=35785831", "+proj=ortho +lat_0=40 +lon_0=10", "+proj=tmerc +k=0", "+proj=longlat +a=1 +b=1",
    "+proj=laea +lat_0=90 +R=1737400", "+proj=utm +zone=33 +units=us-ft", "+proj=merc +a=1e-9 +b=1e-9",
    'LOCAL_CS["here",UNIT["metre",1]]', "", None,
)  # fmt: skip


def rasters_odd(rng: Rng, folder: Path, out: Path, materials: Materials) -> list[str]:
    """A sound file whose place, size, values or bands cannot be meant, or can hardly."""
    image, how = materials.image, {}
    affine, crs = list(Affine(GSD_M, 0, EAST, 0, -GSD_M, NORTH))[:6], "EPSG:32633"
    troubles = rng.choice(["transform", "crs", "dtype", "size", "values", "nodata", "bands"], 2, replace=False).tolist()
    if "transform" in troubles:
        for at in rng.integers(6, size=int(rng.integers(1, 4))):
            affine[at] = pick(rng, NUMBERS)
    if "crs" in troubles:
        crs = pick(rng, SYSTEMS)
        if crs in ("EPSG:4326", "EPSG:4807") and rng.random() < 0.7:
            lon, lat = pick(rng, (180 - 2e-4, -180, 359.9999, 12, -540)), pick(rng, (90, 89.9999, -89.9, 0, 47))
            affine = [3e-6, 0, float(lon), 0, -3e-6, float(lat)]
    image = _pixels(rng, image, troubles)
    if "nodata" in troubles:
        how["nodata"] = pick(rng, (0, 255, 70, math.nan, math.inf, -1e38))
        if image.dtype.kind in "ui" and not 0 <= how["nodata"] <= 127:
            del how["nodata"]  # rasterio writes none that the type does not hold
    try:
        write_scene(folder / "scene.tif", image, Affine(*affine), crs, **how)
    except Exception:  # what cannot be written at all is written as a mosaic's text, which can say anything
        _write_vrt(folder, materials.image, affine, crs)
        return command(folder / "scene.vrt", rng, out)
    more = pick(rng, ((), ("--bands", "1,1,1"), ("--bands", "1"), ("--crs", "EPSG:4326"), ("--crs", "EPSG:3857")))
    return command(folder / "scene.tif", rng, out, *more)


def _pixels(rng: Rng, image: np.ndarray, troubles: list[str]) -> np.ndarray:
    if "dtype" in troubles:
        image = image.astype(pick(rng, ("uint16", "int16", "uint32", "int32", "float32", "float64", "int8", "uint64")))
    if "size" in troubles:
        height, width = pick(rng, ((1, 1), (1, 300), (3, 5_000), (2, 2), (5_000, 1), (33, 31)))
        image = np.resize(image, (len(image), height, width))
    if "values" in troubles:
        image = _values(rng, image)
    if "bands" in troubles:
        image = np.resize(image, (pick(rng, (1, 2, 4, 5, 40)), *image.shape[1:]))
    return image


def _values(rng: Rng, image: np.ndarray) -> np.ndarray:
    kind = pick(rng, ("constant", "nan", "mixed", "huge", "noise", "binary"))
    if kind == "constant":
        return np.full_like(image, pick(rng, (0, 1, 70, 127)))
    if kind == "noise":
        return rng.integers(0, 127, image.shape).astype(image.dtype)
    if kind == "binary":
        return (rng.random(image.shape) > 0.5).astype(image.dtype)
    values = image.astype(np.float32)
    if kind == "nan":
        values[:] = np.nan
    elif kind == "mixed":
        values[rng.random(image.shape) < 0.3] = pick(rng, (np.nan, np.inf, -np.inf, 3e38))
    else:
        values *= np.float32(1e36)
    return values


def _write_vrt(folder: Path, image: np.ndarray, affine: list[float], crs: Any) -> None:
    write_scene(folder / "tile.tif", image)
    a, b, c, d, e, f = affine
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{k}"><SimpleSource><SourceFilename relativeToVRT="1">tile.tif'
        f"</SourceFilename><SourceBand>{k}</SourceBand></SimpleSource></VRTRasterBand>"
        for k in (1, 2, 3)
    )
    (folder / "scene.vrt").write_text(
        f'<VRTDataset rasterXSize="{WIDTH}" rasterYSize="{HEIGHT}"><SRS>{crs or ""}</SRS>'
        f"<GeoTransform>{c}, {a}, {b}, {f}, {d}, {e}</GeoTransform>{bands}</VRTDataset>"
    )


# --- settings ---------------------------------------------------------------------------------------------------------

ODD: tuple[Any, ...] = (
    math.inf, -math.inf, math.nan, 0, -1, 1, 1e-9, 1e300, 10**40, "", "none", "../x", "a\0b", "\ud800", "x" * 5000, None,
    True, [], {}, [1], [0.6, 0.1], [-1, 1], {"kind": "volcano"}, {"kind": "lines"}, {"kind": "regions"},
    {"kind": "grid"}, [[[[]]]], "buildings", "2026-02-30", {1: 2},
)  # fmt: skip


def mutate(rng: Rng, value: Any) -> Any:
    """A nested value with an entry replaced, removed or added somewhere."""
    if not isinstance(value, dict | list) or not value or rng.random() < 0.15:
        return pick(rng, ODD)
    changed = dict(value) if isinstance(value, dict) else list(value)
    key = pick(rng, list(changed) if isinstance(changed, dict) else range(len(changed)))
    what = rng.random()
    if isinstance(changed, dict) and what < 0.12:
        del changed[key]
    elif isinstance(changed, dict) and what < 0.24:
        changed[pick(rng, ("spam", "kind", 3, None, "classifier"))] = pick(rng, ODD)
    else:
        changed[key] = mutate(rng, changed[key])
    return changed


def stretch(rng: Rng, value: Any) -> Any:
    """A nested value with a number somewhere much larger or smaller, of the same type: what a schema may let pass."""
    if isinstance(value, dict | list) and value:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        held = [key for key in keys if isinstance(value[key], dict | list | int | float) and value[key] not in ({}, [])]
        if not held:
            return value
        changed, key = (dict(value) if isinstance(value, dict) else list(value)), pick(rng, held)
        changed[key] = stretch(rng, changed[key])
        return changed
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return type(value)(pick(rng, (0, 1, value * 10.0 ** rng.integers(-6, 7), value * rng.random(), 1 - value)))


TEXTS = (
    "", "[", "&a [*a]", "a: &a {b: *a}", "!!python/object/apply:os.system ['true']", "--- a\n--- b\n", "{" * 3000,
    "[" * 3000 + "]" * 3000, "name: x\nname: y\n", "\t", "%YAML 9.9\n---\n", "a: 2026-02-30", "? [a]\n: b", "- a\n- b\n",
    "name: \"\\ud800\"\nlabel: building\nclassifier: buildings-lite0\n", "x: " + "9" * 5000,
)  # fmt: skip


def write_yaml(rng: Rng, path: Path, settings: Any) -> None:
    """Write settings that were mutated one to three times, or text that is none."""
    if rng.random() < 0.12:
        path.write_text(pick(rng, TEXTS))
        return
    change = stretch if rng.random() < 0.5 else mutate
    for _ in range(int(rng.integers(1, 4))):
        settings = change(rng, settings)
    try:
        text = yaml.safe_dump(settings, allow_unicode=False)
    except (yaml.YAMLError, UnicodeEncodeError):
        text = json.dumps(settings, default=str)
    path.write_text(text, encoding="utf-8", errors="replace")
    if rng.random() < 0.1:
        damage(rng, path)


def themes(rng: Rng, folder: Path, out: Path, materials: Materials) -> list[str]:
    """A theme with settings that cannot be meant; now and then two."""
    from hybridseg.theme import load_theme

    scene = write_scene(folder / "scene.tif", materials.image)
    name = pick(rng, ("buildings", "water", "solar", "roads", "fields"))
    settings = yaml.safe_load(load_theme(name).to_yaml()) | {"max_gsd_m": 5.0}
    write_yaml(rng, folder / "mine.yaml", settings)
    theme = pick(rng, (f"{folder / 'mine.yaml'}", f"{folder / 'mine.yaml'}", f"{folder / 'mine.yaml'},buildings"))
    lines = ("--as", "lines") if rng.random() < 0.15 else ()
    return command(scene, rng, out, "--theme", theme, *lines)


OPTIONS = {
    "--extent": ("", "a,b", "1,2,3,4", "nan,0,1,1", f"{EAST},{NORTH - 9},{EAST + 9},{NORTH}", "-1e300,-1e300,1e300,1e300",
                 f"{EAST},{NORTH - 1e-9},{EAST + 1e-9},{NORTH}", "1,2,3", ",,,", "1e400,0,2,2", "[1,2,3,4]", "{}"),
    "--bands": ("0", "1,2", "-1,2,3", "9,9,9", "1e9", "red", "", "1.5", "1,2,3,4", "[1]", "99999999999999999999"),
    "--crs": ("EPSG:0", "", "x", "EPSG:4978", "EPSG:5773", "IAU_2015:30100", "EPSG:32760", "+proj=ob_tran", "EPSG:3031",
              "EPSG:2263", "\udcff", "+proj=ortho +lat_0=-90", "+proj=tmerc +k=0", "EPSG:4326", "EPSG:99999999999999"),
    "--theme": ("", ",", "buildings,buildings", "volcano", "..", "/", "a\udcff", "buildings,", "none.yaml", "/dev/null.yaml"),
    "--model": ("", ".", "/", "hf:", "hf:a/b", "hf:../..", "none", "/dev/null", "\udcff", "buildings-lite0", "sam2-lite"),
    "--refiner": ("", "none.pt", "/dev/null", "sam3", "hf:a/b", "buildings-lite0", ".", "none", "a.pt", "scene.tif"),
    "--prompts": ("", "box", "lines", "box,box", "points,hint", ",", "[]"),
    "--device": ("", "abacus", "cuda:99", "cpu:7", "mps", "cuda", "cpu"),
    "--source-crs": ("EPSG:4326", "", "x", "EPSG:0"),
    "--from-prompts": ("", "none.gpkg", ".", "/dev/null", "scene.tif", "/dev/zero"),
    "--aoi": ("", "none.gpkg", ".", "scene.tif", "/dev/null"),
    "--nodata": ("", "x", "nan", "inf", "-1", "none", "0,0", "1e400"),
    "--gsd": ("0", "-1", "nan", "1e-9", "1e9", "x", "0.5"),
    "--shape": ("", "traced", "smooth", "regular", "round"),
    "--workers": ("0", "-1", "x", "1e9", "2"),
    "--run": ("", ".", "/dev/null", "/proc/x", "scene.tif", "x" * 300),
    "--as": ("lines", "points", ""),
    "--json": (None,),
    "--spam": ("1",),
}  # fmt: skip
PLACES = ("", ".", "map", "map.shp", "none/map.gpkg", "map.gpkg", "map.GPKG", "map.tif", "x" * 300 + ".gpkg", "/proc/map.gpkg",
          "/dev/null", "scene.tif", "Scene.TIF", "map.geojson", "\udcff.gpkg", "a b.gpkg", "map.parquet", "http://x/map.gpkg",
          "gpkg_.gpkg", "..gpkg", "'.fgb")  # fmt: skip
SOURCES = ("scene.tif", "none.tif", "", ".", "/dev/null", "zip://scene.tif", "/vsizip/scene.tif", "/vsimem/x", "https://",
           "ftp://x", "GTIFF_DIR:1:scene.tif", "GTIFF_DIR:9:scene.tif", "vrt://scene.tif?bands=1,1,1", "WMS:x", "<VRTDataset",
           "scene.tif\udcff", "PG:", "s3://", "file://scene.tif", "scene.tif,scene.tif", "*.tif")  # fmt: skip


def options(rng: Rng, folder: Path, out: Path, materials: Materials) -> list[str]:
    """Words on the command line that cannot be meant."""
    write_scene(folder / "scene.tif", materials.image)
    source = pick(rng, SOURCES) if rng.random() < 0.35 else "scene.tif"
    place = pick(rng, PLACES) if rng.random() < 0.35 else "map.gpkg"
    # those in the scene's folder stay relative to it: they name inputs
    place = place if place.lower().endswith("scene.tif") or place.startswith(("/", "http")) else f"{out}/{place}"
    words = ["extract", source, place, "--refiner", "none", "--device", "cpu", "--runtime", "torch"]
    for flag in rng.choice(list(OPTIONS), int(rng.integers(1, 4)), replace=False):
        value = pick(rng, OPTIONS[flag])
        words += [str(flag)] if value is None else [f"{flag}={value}"]
    if rng.random() < 0.15:
        words = [
            pick(rng, ("models", "demo", "train", "tune", "evaluate", "finetune", "dig", "", "--json")),
            *words[1:3],
        ]
        words += pick(
            rng, ((), ("--json",), ("--size-px", "x"), ("--labels", "none.gpkg", "--theme", "x", "--out", "x"))
        )
    return words


# --- tables -----------------------------------------------------------------------------------------------------------

X, Y = EAST + 12.0, NORTH - 12.0
BOX = shapely.box(X, Y - 6, X + 8, Y)
SHAPES: tuple[Any, ...] = (
    None, shapely.Polygon(), shapely.Point(X, Y), shapely.LineString([(X, Y), (X + 5, Y)]), shapely.GeometryCollection([BOX]),
    shapely.Polygon([(X, Y), (X + 5, Y - 5), (X + 5, Y), (X, Y - 5)]),  # crosses itself
    shapely.Polygon([(X, Y), (X, Y), (X, Y)]), shapely.Polygon([(X, Y), (X + 5, Y), (X + 10, Y)]),
    shapely.Polygon([(X, Y), (math.nan, Y), (X, Y - 5)]), shapely.Polygon([(X, Y), (math.inf, Y), (X, Y - 5)]),
    shapely.box(X, Y, X + 1e-9, Y + 1e-9), shapely.box(X - 1e6, Y - 1e6, X + 1e6, Y + 1e6), shapely.box(0, 0, 1, 1),
    shapely.box(X, Y, X + 1e300, Y + 1e300), shapely.MultiPolygon([BOX, BOX]), shapely.force_3d(BOX, 5.0),
    shapely.Polygon(BOX.exterior, [shapely.box(X + 50, Y, X + 60, Y + 5).exterior]),
    shapely.Polygon([(X + 6 * math.cos(t), Y - 6 + 6 * math.sin(t)) for t in np.linspace(0, 6.28, 5000)]),
    shapely.MultiPolygon([]), BOX,
)  # fmt: skip
CELLS: tuple[Any, ...] = (None, math.nan, math.inf, -1.0, 5.0, 0.0, 1e300, "", "building", "volcano", "0.5", 7, True)


def mutate_table(rng: Rng, rows: gpd.GeoDataFrame, most: int = 3) -> gpd.GeoDataFrame:
    """Rows with an odd geometry, value, column or CRS, or several of these."""
    rows, troubles = rows.copy(), ("geometry", "geometry", "cell", "column", "drop", "crs", "rows", "name")
    for what in rng.choice(troubles, int(rng.integers(1, most + 1)), replace=False):
        if what == "geometry" and len(rows):
            name = pick(rng, [c for c in rows if isinstance(rows[c], gpd.GeoSeries)])
            at, shape = int(rng.integers(len(rows))), pick(rng, SHAPES)
            values = list(rows[name])
            values[at] = shape
            rows[name] = gpd.GeoSeries(values, rows.index, crs=rows.crs)
        elif what in ("cell", "column") and len(rows):
            name = pick(rng, [c for c in rows if not isinstance(rows[c], gpd.GeoSeries)] or ["score"])
            values = list(rows[name]) if name in rows else [1.0] * len(rows)
            chosen = range(len(rows)) if what == "column" else [int(rng.integers(len(rows)))]
            cell = pick(rng, CELLS)
            for at in chosen:
                values[at] = cell
            texts = any(isinstance(value, str) for value in values)
            rows[name] = [None if value is None else str(value) for value in values] if texts else values
        elif what == "drop":
            rows = rows.drop(columns=pick(rng, [c for c in rows if c != rows.geometry.name] or []) or [])
        elif what == "crs":
            rows = rows.set_crs(pick(rng, ("EPSG:4326", "EPSG:3857", "EPSG:32760", "EPSG:4978")), allow_override=True)
        elif what == "rows":
            rows = rows.iloc[:0] if rng.random() < 0.4 else rows.iloc[[*range(len(rows))] * 2]
        elif what == "name":
            rows = (
                rows.rename_geometry(pick(rng, ("geom", "score", "class", "support", "x")) + "_")
                if rng.random() < 0.5
                else rows
            )
    return rows.reset_index(drop=True)


def write_table(rng: Rng, folder: Path, rows: gpd.GeoDataFrame, suffixes: tuple[str, ...]) -> Path:
    """Write rows in some format, its bytes damaged now and then; what cannot be written becomes GeoParquet."""
    path = folder / f"table{pick(rng, suffixes)}"
    with warnings.catch_warnings(action="ignore"):
        try:
            if path.suffix == ".parquet":
                rows.to_parquet(path)
            else:
                others = [c for c in rows if isinstance(rows[c], gpd.GeoSeries) and c != rows.geometry.name]
                rows.drop(columns=others).to_file(path)
        except Exception:
            path.unlink(missing_ok=True)
            path = folder / "table.parquet"
            gpd.GeoDataFrame(rows[[rows.geometry.name]]).to_parquet(path)
    if rng.random() < 0.25:
        damage(rng, path)
    return path


def prompts(rng: Rng, folder: Path, out: Path, materials: Materials) -> list[str]:
    """A prompts file, of a run or drawn by hand, with rows that cannot be meant."""
    scene = write_scene(folder / "scene.tif", materials.image)
    if rng.random() < 0.5:
        rows = gpd.read_parquet(materials.work / "prompts.parquet")
    else:
        columns = {"class": ["building"] * 2, "score": [0.9, 0.8], "id": ["a", "b"], "note": ["x", "y"]}
        rows = gpd.GeoDataFrame(columns, geometry=[BOX, shapely.affinity.translate(BOX, 15, -12)], crs="EPSG:32633")
    path = write_table(rng, folder, mutate_table(rng, rows), (".parquet", ".gpkg", ".geojson", ".fgb", ".shp"))
    more = ("--extent", f"{EAST},{NORTH - 20},{EAST + 20},{NORTH}") if rng.random() < 0.15 else ()
    theme = ("--theme", pick(rng, ("buildings", "water", "roads", "buildings,water"))) if rng.random() < 0.3 else ()
    return command(scene, rng, out, "--from-prompts", str(path), *more, *theme)


# --- models -----------------------------------------------------------------------------------------------------------


def models(rng: Rng, folder: Path, out: Path, materials: Materials) -> list[str]:
    """A model folder with a card, weights or theme that cannot be meant, or a checkpoint of something else."""
    scene = write_scene(folder / "scene.tif", materials.image)
    if rng.random() < 0.25:
        return _checkpoint(rng, folder, out, scene)
    model = folder / "model"
    model.mkdir()
    weights = model / "weights.safetensors"
    shutil.copy(materials.model / weights.name, weights)
    card = yaml.safe_load((materials.model / "card.yaml").read_text())
    used = {
        key: card[key]
        for key in ("kind", "classes", "gsd_m", "gsd_range_m", "sha256", "backbone", "head")
        if key in card
    }
    used |= {"calibration": {"building": [[0.1, 0.2], [0.9, 0.95]]}, "calibration_settings": {"building": "x"}}
    theme = {"name": "mine", "label": "building", "classifier": ".", "shape": "buildings"}
    what = pick(rng, ("card", "card", "weights", "weights alone", "theme", "missing"))
    (model / "theme.yaml").write_text(yaml.safe_dump(theme))
    (model / "card.yaml").write_text(yaml.safe_dump(used))
    if what == "card":
        write_yaml(rng, model / "card.yaml", {k: v for k, v in used.items() if k != "sha256" or rng.random() < 0.5})
    elif what.startswith("weights"):
        if what == "weights alone":  # a card without the hash
            (model / "card.yaml").write_text(yaml.safe_dump({k: v for k, v in used.items() if k != "sha256"}))
        _damage_weights(rng, weights)
    elif what == "theme":
        write_yaml(rng, model / "theme.yaml", theme | {"objects": {"kind": "instances", "rise": 0.1}})
    else:
        (model / pick(rng, ("card.yaml", "theme.yaml", "weights.safetensors"))).unlink()
    return command(scene, rng, out, "--model", str(model))


def _damage_weights(rng: Rng, path: Path) -> None:
    if rng.random() < 0.5:
        damage(rng, path)
        return
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    names = [name for name in header if name != "__metadata__"]
    entry = header[pick(rng, names)]
    entry[pick(rng, ("dtype", "shape", "data_offsets"))] = pick(
        rng, ("F64", "X", [], [0], [1 << 60, 2], [-1, 4], [0, 0], None, [5, 1], "BF16")
    )
    text = json.dumps(header).encode()
    path.write_bytes(pick(rng, (len(text), 0, 1 << 62, 7)).to_bytes(8, "little") + text + data[8 + length :])


class _Odd:
    """Becomes a call when it is unpickled."""

    def __reduce__(self) -> Any:
        return print, ("executed",)


def _checkpoint(rng: Rng, folder: Path, out: Path, scene: Path) -> list[str]:
    path = folder / "odd.pt"
    held: Any = pick(
        rng,
        (
            {}, {"model": None}, {"model": []}, {"model": {}}, {"model": {"a": 1}}, {"model": {1: torch.zeros(2)}}, 3, None,
            {"model": {"image_encoder.trunk.patch_embed.proj.weight": torch.zeros(3)}}, torch.zeros(3),
            {"model": {"image_encoder.trunk.patch_embed.proj.weight": torch.zeros(96, 3, 7, 7)}}, _Odd(), [1, 2],
            {"model": {"image_encoder.trunk.patch_embed.proj.weight": "text"}},
        ),
    )  # fmt: skip
    if rng.random() < 0.3:
        path.write_bytes(pickle.dumps(held))
    else:
        torch.save(held, path)
    if rng.random() < 0.3:
        damage(rng, path)
    return [
        "extract",
        str(scene),
        str(out / "map.gpkg"),
        "--refiner",
        str(path),
        "--device",
        "cpu",
        "--runtime",
        "torch",
    ]
