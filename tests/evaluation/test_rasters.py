from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from rasterio.features import rasterize

from hybridseg.errors import EvaluateError
from hybridseg.evaluation.rasters import is_raster, read_grid, read_reference

AFFINE = Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000)


def save(path: Path, values: np.ndarray, tags: dict[str, str] | None = None, **profile) -> Path:
    height, width = values.shape
    settings = {"crs": "EPSG:32633", "transform": AFFINE, "count": 1, "dtype": values.dtype} | profile
    with rasterio.open(path, "w", driver="GTiff", height=height, width=width, **settings) as target:
        target.write(values, 1)
        target.update_tags(1, **(tags or {}))
    return path


def classes() -> np.ndarray:
    """Class 1 in two patches, 2 in three; the first of 2 has a hole."""
    values = np.zeros((20, 20), np.uint8)
    values[1:4, 1:5] = values[1:4, 7:9] = 1
    values[8:13, 1:6] = values[8:10, 8:10] = values[15:17, 8:10] = 2
    values[10, 3] = 0
    return values


def instances() -> np.ndarray:
    values = np.zeros((20, 20), np.uint16)
    values[1:4, 1:5], values[1:4, 5:9], values[8:13, 1:6], values[8, 10] = 7, 900, 65_535, 7
    return values


def test_classes_become_a_polygon_a_patch(tmp_path: Path) -> None:
    found = read_reference(save(tmp_path / "a.tif", classes()))
    assert found.table["class"].value_counts().to_dict() == {"1": 2, "2": 3}
    assert sorted(found.table.area / 0.25) == [4, 4, 6, 12, 24]
    assert found.note.startswith("a.tif: values taken for classes (1, 2), their connected patches for objects, so")
    assert found.table.crs == found.grid.crs.proj


def test_outlines_give_back_the_pixels(tmp_path: Path) -> None:
    for affine in (AFFINE, AFFINE @ Affine.rotation(30), Affine(0.5, 0, 500_000, 0, 0.5, 5_000_000)):
        found = read_reference(save(tmp_path / "a.tif", classes(), transform=affine))
        shapes = zip(found.table.geometry, found.table["class"].astype(int), strict=True)
        np.testing.assert_array_equal(rasterize(shapes, (20, 20), transform=affine), classes())


def test_instances_become_a_row_a_number(tmp_path: Path) -> None:
    found = read_reference(save(tmp_path / "a.tif", instances()))
    assert "class" not in found.table
    assert (found.table.area / 0.25).tolist() == [13, 12, 25]
    assert found.table.geometry.iloc[0].geom_type == "MultiPolygon"
    assert found.note == "a.tif: 3 values, taken for one object each"


def test_what_values_mean_can_be_said(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", instances())
    assert len(read_reference(path, "classes").table) == 4
    assert "class" in read_reference(path, known=frozenset({"7"})).table
    named = save(tmp_path / "b.tif", instances(), tags={"class_7": "house"})
    assert set(read_reference(named).table["class"]) == {"house", "900", "65535"}
    assert len(read_reference(save(tmp_path / "c.tif", classes()), "instances").table) == 2


def test_a_mask_of_one_value_is_a_class(tmp_path: Path) -> None:
    one = (classes() == 2).astype(np.uint8)
    assert read_reference(save(tmp_path / "a.tif", one)).table["class"].tolist() == ["1"] * 3


def test_no_data_is_unknown_but_nought_is_none(tmp_path: Path) -> None:
    values = classes()
    values[:, 15:] = 255
    found = read_reference(save(tmp_path / "a.tif", values, nodata=255))
    assert set(found.table["class"]) == {"1", "2"}
    assert shapely.area(found.unknown).sum() == 20 * 5 * 0.25
    assert len(read_reference(save(tmp_path / "b.tif", classes(), nodata=0)).unknown) == 0
    floats = values.astype(np.float32)
    floats[values == 255] = np.nan
    nan = read_reference(save(tmp_path / "c.tif", floats, nodata=np.nan))
    assert shapely.area(nan.unknown).sum() == 20 * 5 * 0.25
    assert set(nan.table["class"]) == {"1", "2"}


def test_a_photo_is_no_reference(tmp_path: Path) -> None:
    with pytest.raises(EvaluateError, match=r"photo.tif has 3 bands; a reference has one"):
        read_reference(save(tmp_path / "photo.tif", classes(), count=3))
    masked = save(tmp_path / "masked.tif", classes(), count=2, ALPHA="YES")
    assert len(read_reference(masked).table) == 5


def test_a_file_cut_short(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", np.random.default_rng(0).integers(0, 9, (500, 500), np.uint8))
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(EvaluateError, match=r"a.tif cannot be read to its end"):
        read_reference(path)


def test_what_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(EvaluateError, match="holds fractions"):
        read_reference(save(tmp_path / "a.tif", classes() / np.float32(4)))
    (tmp_path / "no.tif").write_text("no")
    with pytest.raises(EvaluateError, match=r"cannot open .*no.tif as a raster"):
        read_grid(tmp_path / "no.tif")
    with pytest.raises(EvaluateError, match=r"none.tif does not exist"):
        read_grid(tmp_path / "none.tif")
    assert is_raster("a.TIF")
    assert not is_raster("a.gpkg")
