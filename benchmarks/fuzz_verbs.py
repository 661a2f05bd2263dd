"""Malformed inputs of the verbs beside extract: maps and labels, dates, reviews."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely

from benchmarks.fuzz_cases import (
    BOX,
    HEIGHT,
    WIDTH,
    Materials,
    Rng,
    damage,
    mutate_table,
    pick,
    write_scene,
    write_table,
)

SUFFIXES = (".gpkg", ".geojson", ".parquet", ".fgb", ".shp")
OUTLINES = [shapely.affinity.translate(BOX, dx, dy) for dx, dy in ((0, 0), (14, -10), (-8, -14))]


def _table(rng: Rng, folder: Path, odd: float) -> Path:
    """Write a layer of three buildings, odd with this probability."""
    columns = {"class": ["building"] * 3, "score": [0.9, 0.8, 0.7], "id": ["a", "b", "c"]}
    rows = gpd.GeoDataFrame(columns, geometry=OUTLINES, crs="EPSG:32633")
    folder.mkdir()
    return write_table(rng, folder, mutate_table(rng, rows, 2) if rng.random() < odd else rows, SUFFIXES)


def _mostly(rng: Rng, sound: str, *odd: str) -> str:
    """What is sound, one time in ten something odd: so that most cases come to what lies behind."""
    return sound if rng.random() < 0.9 else str(pick(rng, odd))


def _some(rng: Rng, chance: float, *options: tuple[str, ...]) -> list[str]:
    """Each option, a flag and its value, with this probability."""
    return [word for option in options if rng.random() < chance for word in option]


def layers(rng: Rng, folder: Path, out: Path, materials: Materials) -> list[str]:
    """Maps and references with rows that cannot be meant: evaluate."""
    scene = write_scene(folder / "scene.tif", materials.image)
    first, second = _table(rng, folder / "a", 0.6), _table(rng, folder / "b", 0.6)
    if rng.random() < 0.2:
        codes = rng.integers(0, 3, (1, HEIGHT, WIDTH)).astype(np.uint8)
        values = pick(rng, (codes, materials.image[:1].astype(np.float32)))
        second = write_scene(folder / "b" / "reference.tif", values)
    return ["evaluate", str(first), str(second), *_some(
        rng, 0.25,
        ("--scene", str(scene)), ("--layer", str(out / "verdicts.gpkg")), ("--html", str(out / "report.html")),
        ("--aoi", str(second)), ("--ignore", str(first)), ("--compare", str(second)),
        ("--tolerance-m", pick(rng, ("nan", "-1", "0", "1e-12", "1e12", "inf", "0.5"))),
        ("--label-column", pick(rng, ("none", "class", "score", ""))),
        ("--rename", pick(rng, ("{}", "x", '{"building": "a"}'))),
    )]  # fmt: skip


def labels(rng: Rng, folder: Path, out: Path, materials: Materials) -> list[str]:
    """Labels and settings that cannot be meant: finetune and tune."""
    scene = write_scene(folder / "scene.tif", materials.image)
    if rng.random() < 0.15:
        damage(rng, scene)
    drawn = _table(rng, folder / "a", 0.6)
    if rng.random() < 0.2:
        values = rng.integers(0, 3, (1, HEIGHT, WIDTH)).astype(pick(rng, (np.uint8, np.int16, np.float32, np.float64)))
        drawn = write_scene(folder / "a" / "codes.tif", values, crs=pick(rng, ("EPSG:32633", "EPSG:4326", None)))
    given = ["--scene", str(scene), "--labels", str(drawn), "--refiner", "none", "--device", "cpu"]
    if rng.random() < 0.15:
        given[4:4] = pick(rng, ((str(drawn),), ("none.gpkg",), (str(scene),), ("",)))
    if rng.random() < 0.3:
        theme, made = (
            pick(rng, ("buildings", "water", "none", "")),
            out / pick(rng, ("mine.yaml", "mine", "x/mine.yaml")),
        )
        return ["tune", theme, str(made), *given, *_some(
            rng, 0.2, ("--within", str(drawn)), ("--bands", pick(rng, ("9,9,9", "1", "x", "")))
        )]  # fmt: skip
    theme = _mostly(rng, "buildings", "buildings,water", "volcano", "")
    return ["finetune", *given, "--theme", theme, "--out", str(out / _mostly(rng, "mine", "x/y/mine")), *_some(
        rng, 0.06,
        ("--column", pick(rng, ("class", "score", "none", ""))),
        ("--classes", pick(rng, ("building=1", "building=building", "x", "building=", "=1", "building=1,building=2"))),
        ("--width", pick(rng, ("3", "-1", "nan", "score", "x", "1e300"))),
        ("--complete-within", str(drawn)),
        ("--gsd", pick(rng, ("0.3", "0", "-1", "nan", "1e9", "1e-9", "x"))),
        ("--validation", pick(rng, ("0", "1", "0.5", "-1", "nan", "2"))),
        ("--head", _mostly(rng, "linear", "round")),
        ("--backbone", pick(rng, ("lite0", "volcano", "index:ndwi", "index:(", "index:1/0", "timm:none", "sam2:none", ""))),
        ("--bands", pick(rng, ("9,9,9", "1", "red=1,green=2,blue=3,nir=3", "x"))),
        ("--backbone-bands", pick(rng, ("1,2,3", "9", "x"))),
        ("--seed", pick(rng, ("-1", "1e9", "x"))),
        ("--search-settings", "false"),
    )]  # fmt: skip


def tracks(rng: Rng, folder: Path, out: Path, materials: Materials) -> list[str]:
    """Scenes, dates and layers that do not go together: track."""
    scenes = []
    for year in (2019, 2021, 2023)[: int(pick(rng, (1, 2, 2, 2, 3)))]:
        image = np.roll(materials.image, int(rng.integers(3)), axis=2)
        name = _mostly(rng, f"{year}.tif", "scene.tif", "2019-13-45.tif")
        crs = pick(rng, ("EPSG:32633",) * 12 + ("EPSG:3857", "EPSG:4326", None))
        scenes.append(write_scene(folder / name, image, crs=crs))
        if rng.random() < 0.12:
            damage(rng, scenes[-1])
    sources = pick(rng, ([str(scene) for scene in scenes],) * 4 + ([str(folder)], [str(folder / "*.tif")], [""]))
    place = out / _mostly(rng, "ponds.gpkg", "ponds.shp", "ponds", "x/ponds.gpkg")
    mask = write_scene(folder / "clear.msk", materials.image[:1] // 100)
    flags = ["--theme", _mostly(rng, "buildings", "buildings,water", "volcano"), "--refiner", "none"]
    return ["track", *sources, str(place), *flags, "--device", "cpu", "--runtime", "torch", *_some(
        rng, 0.12,
        ("--dates", pick(rng, ("2019,2021", "2019", "2019,2019", "2021,2019,2023", "x", "0000", "2019-02-30", ","))),
        ("--layer", str(_table(rng, folder / "a", 0.8))),
        ("--layer-date", pick(rng, ("2010", "2050", "x", ""))),
        ("--clear-mask", *pick(rng, ((str(mask),), (str(mask),) * len(scenes), ("none.tif",)))),
        ("--report", str(out / _mostly(rng, "report.html", "report", "x/report.html"))),
        ("--change", pick(rng, ("0", "1", "0.5", "-1", "nan", "x", "1e-300"))),
        ("--align", "false"),
        ("--crs", pick(rng, ("EPSG:4326", "EPSG:0", "EPSG:3031", ""))),
        ("--bands", pick(rng, ("9,9,9", "1", "x"))),
    )]  # fmt: skip


def reviews(rng: Rng, folder: Path, out: Path, materials: Materials) -> list[str]:
    """Maps, layers and review files that cannot be meant: review --export."""
    scene = write_scene(folder / "scene.tif", materials.image)
    if rng.random() < 0.15:
        damage(rng, scene)
    table, edits = _table(rng, folder / "a", 0.8), out / "edits.gpkg"
    if rng.random() < 0.3:
        edits = _table(rng, folder / "b", 0.5)
    source = pick(rng, ((str(table),),) * 3 + (("--layer", str(table)), ()))
    place = out / _mostly(
        rng, str(pick(rng, ("map.gpkg", "map.parquet", "map.fgb", "map.geojson"))), "map.tif", "map", "x/map.gpkg"
    )
    flags = ("--edits", str(edits), "--device", "cpu", "--refiner", "none")
    return ["review", str(scene), *source, "--export", str(place), *flags, *_some(
        rng, 0.1,
        ("--theme", _mostly(rng, "buildings", "water", "volcano", "")), ("--decided-only",), ("--difference",),
        ("--bands", pick(rng, ("9,9,9", "1", "x"))), ("--who", pick(rng, ("", "x" * 5000, "a\nb"))),
        ("--idle-minutes", pick(rng, ("nan", "-1", "0"))),
    )]  # fmt: skip
