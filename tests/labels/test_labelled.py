"""Labels of every kind become polygons, an area where they are complete, and pixels to learn from."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine

from hybridseg.errors import HybridsegError, LayerError, ThemeError
from hybridseg.labels.labelled import Labelled, LabelledGrid, on_grid, read_labelled
from hybridseg.labels.layers import LabelsWarning
from hybridseg.read.scene import Scene
from tests.labels.drawn import BOW, CRS, box, layer
from tests.rasters import EAST, NORTH, utm_affine, write


def gridded(scene: Scene, labels: str, classes: dict[str, str | None], **more) -> LabelledGrid:
    return on_grid(read_labelled(scene, labels, classes, gsd_m=1.0, snap_px=32, **more), classes, 1.0, 32)


def test_polygons_by_class_land_on_their_pixels(scene: Scene, tmp_path: Path):
    drawn = layer(tmp_path / "l.gpkg", [box(10, 10, 20, 10), box(60, 40, 8, 8), box(90, 60, 9, 9)], kind=[1, 2, 7])
    grid = gridded(scene, drawn, {"building": "1", "road": "2"}, column="kind")
    areas = {name: int((ids > 0).sum()) for name, ids in grid.image.objects.items()}
    # the grid is anchored in the CRS: pixels may fall half a pixel aside
    assert areas["building"] == pytest.approx(200, abs=31)
    assert areas["road"] == pytest.approx(64, abs=17)
    assert grid.image.valid.sum() == pytest.approx(96 * 128, rel=0.03)
    assert list(grid.labelled.truth["class"]) == ["building", "road"]
    assert (grid.image.name, grid.image.dataset) == ("a", "l")
    roads = grid.labelled.of_class("road")
    assert roads.truth.area.tolist() == [64]
    assert list(roads.truth.columns) == ["geometry"]


def test_outside_the_complete_area_only_what_is_drawn_is_known(scene: Scene, tmp_path: Path):
    drawn = layer(tmp_path / "l.gpkg", [box(10, 10, 20, 10), box(100, 60, 10, 10)])
    area = layer(tmp_path / "aoi.gpkg", [box(0, 0, 50, 50)])
    grid = gridded(scene, drawn, {"building": None}, complete_within=area)
    assert grid.image.valid.sum() == pytest.approx(50 * 50 + 100, rel=0.05)
    assert grid.labelled.area.area == pytest.approx(2500)
    assert grid.labelled.of_class("building").objects == 1


def test_a_part_of_a_scene_has_its_area_and_extent_and_whole_objects(scene: Scene, tmp_path: Path):
    drawn = layer(tmp_path / "l.gpkg", [box(10, 10, 20, 10), box(100, 60, 10, 10)])
    labelled = read_labelled(
        scene, drawn, {"building": None}, complete_within=layer(tmp_path / "w.gpkg", [box(0, 0, 50, 50)])
    )
    part = labelled.within(box(15, 5, 60, 60))
    assert part.area.equals(box(15, 5, 35, 45))
    assert part.extent == box(15, 5, 35, 45).bounds
    assert part.objects == 1
    assert part.truth.area.sum() == 300
    assert labelled.within(box(80, 0, 9, 9)).objects == 0
    assert labelled.within(box(80, 0, 9, 9)).extent is None


def test_lines_get_their_width(scene: Scene, tmp_path: Path):
    line = shapely.LineString([(EAST + 10, NORTH - 20), (EAST + 60, NORTH - 20)])
    drawn = layer(tmp_path / "l.gpkg", [line], wide=[6.0])
    for width in ("6", "wide"):
        labelled = read_labelled(scene, drawn, {"road": None}, width=width)
        assert labelled.truth.area.sum() == pytest.approx(300, rel=0.01)
    with pytest.raises(LayerError, match="--width"):
        read_labelled(scene, drawn, {"road": None})
    with pytest.raises(ThemeError, match="no column 'broad'"):
        read_labelled(scene, drawn, {"road": None}, width="broad")


def codes_of(path: Path) -> str:
    codes = np.full((1, 96, 128), 2, np.uint8)
    codes[0, 20:30, 20:40], codes[0, :, :10] = 1, 255
    return str(write(path, codes, utm_affine(1.0), nodata=255))


def test_a_raster_of_codes_is_unknown_where_it_has_no_data(scene: Scene, tmp_path: Path):
    path = codes_of(tmp_path / "codes.tif")
    grid = gridded(scene, path, {"building": "1", "field": "2"})
    assert (grid.image.objects["building"] > 0).sum() == pytest.approx(200, abs=31)
    assert (~grid.image.valid).sum() == pytest.approx(grid.image.valid.size - 96 * 118, rel=0.05)
    assert grid.labelled.area.area == pytest.approx(96 * 118, rel=0.03)
    with pytest.raises(ThemeError, match="raster of codes"):
        read_labelled(scene, path, {"building": "house"})


def test_a_raster_of_codes_is_read_at_the_scenes_own_pixels_where_nothing_else_is_asked(scene: Scene, tmp_path: Path):
    labelled = read_labelled(scene, codes_of(tmp_path / "codes.tif"), {"building": "1"})
    assert labelled.truth.area.tolist() == [200]
    within = layer(tmp_path / "w.gpkg", [box(0, 0, 30, 96)])
    part = read_labelled(scene, codes_of(tmp_path / "codes.tif"), {"building": "1"}, complete_within=within)
    assert part.area.area == 20 * 96


@pytest.mark.parametrize(
    ("columns", "classes", "column", "message"),
    [
        ({"kind": ["a"]}, {"road": "b"}, "kind", "holds a"),
        ({"kind": ["a"]}, {"road": "b"}, "type", "no column 'type'; it has kind"),
        ({"kind": ["a"]}, {"road": "a", "field": "b"}, None, "give --column; it has kind"),
    ],
)
def test_what_labels_lack_is_named(scene: Scene, tmp_path: Path, columns, classes, column, message: str):
    drawn = layer(tmp_path / "l.gpkg", [box(10, 10, 20, 10)], **columns)
    with pytest.raises(HybridsegError, match=message):
        read_labelled(scene, drawn, classes, column=column)


def test_labels_beside_the_scene_or_missing_are_refused(scene: Scene, tmp_path: Path):
    with pytest.raises(LayerError, match="has no object on"):
        read_labelled(scene, layer(tmp_path / "l.gpkg", [box(5000, 0, 9, 9)]), {"building": None})
    with pytest.raises(LayerError, match="does not exist"):
        read_labelled(scene, str(tmp_path / "gone.gpkg"), {"building": None})
    away = utm_affine(1.0) @ Affine.translation(5000, 0)
    beside = write(tmp_path / "beside.tif", np.ones((1, 96, 128), np.uint8), away)
    with pytest.raises(LayerError, match="has no pixel on its scene"):
        read_labelled(scene, beside, {"building": None})


def test_tables_lines_and_widths_are_refused(scene: Scene, tmp_path: Path):
    (tmp_path / "table.csv").write_text("a\n1\n")
    drawn = layer(tmp_path / "l.gpkg", [box(10, 10, 20, 10)], kind=["a"])
    line = layer(tmp_path / "w.gpkg", [shapely.LineString([(EAST + 10, NORTH - 20), (EAST + 60, NORTH - 20)])])
    calls = [
        (str(tmp_path / "table.csv"), {}, "no layer with geometry"),
        (drawn, {"complete_within": str(tmp_path / "table.csv")}, "no layer with geometry"),
        (drawn, {"complete_within": line}, "holds LineString; give the complete area as polygons"),
        (line, {"width": "inf"}, "at most 200 m"),
        (line, {"width": "1e9"}, "at most 200 m"),
    ]
    for labels, more, message in calls:
        with pytest.raises(HybridsegError, match=message):
            read_labelled(scene, labels, {"road": None}, **more)


@pytest.mark.parametrize(
    ("pixels", "more", "message"),
    [
        (np.ones((1, 96, 128), np.uint8), {"crs": None}, "no CRS"),
        (np.full((1, 96, 128), 0.5, np.float32), {}, "fractions"),
        (np.ones((1, 96, 128), np.complex64), {}, "complex64"),
        (np.ones((3, 96, 128), np.uint8), {}, "3 bands"),
        (np.zeros((1, 96, 128), np.uint8), {}, "centre of a valid pixel"),
    ],
)
def test_rasters_that_are_no_codes(scene: Scene, tmp_path: Path, pixels, more, message: str):
    path = write(tmp_path / "codes.tif", pixels, utm_affine(1.0), **more)
    with pytest.raises(LayerError, match=message):
        gridded(scene, str(path), {"building": None})


@pytest.mark.parametrize(
    ("extra", "kind", "message", "left"),
    [
        (box(10, 10, 20, 10), "a", r"l.gpkg: 1 of 2 rows \(1\) exact duplicates", 1),
        (BOW, "a", r"1 of 2 rows \(1\) invalid, repaired", 3),
        (None, "a", r"1 of 2 rows \(1\) without geometry", 1),
        (box(5000, 0, 9, 9), "a", r"1 of 2 rows \(1\) beside a.tif", 1),
        (box(50.6, 50.6, 0.1, 0.1), "a", "1 of 2 polygons cover no pixel", 2),
        (box(50, 50, 9, 9), None, r"1 of 2 rows \(1\) without a value in column kind", 1),
    ],
)
def test_what_is_repaired_or_left_out_is_a_warning(scene: Scene, tmp_path: Path, extra, kind, message: str, left: int):
    drawn = layer(tmp_path / "l.gpkg", [box(10, 10, 20, 10), extra], kind=["a", kind])
    with pytest.warns(LabelsWarning, match=message):
        grid = gridded(scene, drawn, {"building": "a"}, column="kind")
    assert len(grid.labelled.truth) == left


def test_a_crossed_area_is_repaired(scene: Scene, tmp_path: Path):
    drawn = layer(tmp_path / "l.gpkg", [box(10, 10, 20, 10)])
    area = layer(tmp_path / "w.gpkg", [BOW, box(5, 5, 30, 30)])
    with pytest.warns(LabelsWarning, match="invalid, repaired"):
        labelled = read_labelled(scene, drawn, {"a": None}, complete_within=area)
    assert labelled.area.is_valid


def test_a_scene_that_does_not_fit_in_memory_is_refused(scene: Scene, tmp_path: Path):
    labelled = read_labelled(scene, layer(tmp_path / "l.gpkg", [box(10, 10, 20, 10)]), {"a": None})
    with pytest.raises(ThemeError, match=r"more than fits in memory; .*--complete-within"):
        on_grid(labelled, ["a"], 0.005, 32)


def test_labels_in_another_crs_are_brought_to_the_scenes(scene: Scene, tmp_path: Path):
    drawn = gpd.GeoDataFrame(geometry=[box(10, 10, 20, 10)], crs=CRS).to_crs("EPSG:4326")
    drawn.to_parquet(tmp_path / "l.parquet")
    labelled = read_labelled(scene, tmp_path / "l.parquet", {"a": None})
    assert isinstance(labelled, Labelled)
    assert labelled.truth.crs.to_epsg() == 32633
    assert labelled.truth.area.sum() == pytest.approx(200, rel=1e-3)
