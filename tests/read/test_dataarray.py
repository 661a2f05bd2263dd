"""An xarray.DataArray is the scene that its coordinates say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox

from hybridseg.errors import BandsMissing, NoGeoreference, SourceError
from hybridseg.read.array import ArrayScene
from hybridseg.read.opening import open_scene
from tests.rasters import default_image, make, utm_affine

xarray = pytest.importorskip("xarray")

BOX = GeoBox((96, 128), utm_affine(0.3), "EPSG:32633")


def coordinates(box: GeoBox = BOX, rows: str = "y", cols: str = "x", noted: bool = True) -> dict[str, Any]:
    """As rioxarray writes them."""
    attrs = {"crs_wkt": box.crs.to_wkt()}
    if noted:
        attrs["GeoTransform"] = " ".join(map(repr, box.affine.to_gdal()))
    a = box.affine
    return {
        rows: (rows, [a.f + a.e * (row + 0.5) for row in range(box.height)]),
        cols: (cols, [a.c + a.a * (col + 0.5) for col in range(box.width)]),
        "spatial_ref": ((), 0, attrs),
    }


def made(pixels: np.ndarray | None = None, dims: tuple[str, ...] = ("band", "y", "x"), **more: Any) -> Any:
    pixels = default_image() if pixels is None else pixels
    coords = coordinates(rows=dims[-2], cols=dims[-1]) | more.pop("coords", {})
    return xarray.DataArray(pixels, dims=dims, coords=coords, **more)


@pytest.mark.parametrize(
    ("dims", "shape"),
    [
        (("band", "y", "x"), (3, 96, 128)), (("y", "x"), (96, 128)), (("time", "y", "x"), (1, 96, 128)),
        (("time", "band", "latitude", "longitude"), (1, 3, 96, 128)), (("channel", "rows", "columns"), (3, 96, 128)),
    ],
)  # fmt: skip
def test_dimensions_are_found(dims: tuple[str, ...], shape: tuple[int, ...]) -> None:
    image = default_image()[: 1 if 3 not in shape else 3]
    scene = open_scene(made(image.reshape(shape), dims))
    assert isinstance(scene, ArrayScene)
    assert scene.fingerprint == open_scene(image, geobox=BOX).fingerprint
    np.testing.assert_array_equal(
        scene.read_window(scene.window, (96, 128)).pixels, np.broadcast_to(image, (3, 96, 128))
    )
    assert scene.geobox == BOX


def test_bands_last_are_turned_first() -> None:
    scene = open_scene(made().transpose("y", "x", "band"))
    np.testing.assert_array_equal(scene.read_window(scene.window, (96, 128)).pixels, default_image())


@pytest.mark.parametrize("noted", [True, False])
def test_a_cut_lies_where_its_coordinates_say(noted: bool) -> None:
    whole = xarray.DataArray(default_image(), dims=("band", "y", "x"), coords=coordinates(noted=noted))
    scene = open_scene(whole.isel(x=slice(20, 90), y=slice(10, 60)))
    assert scene.geobox.affine.almost_equals(BOX.affine @ Affine.translation(20, 10), 1e-6)
    thin = whole.isel(x=slice(20, 21))
    if noted:  # the cut is another place, but the pixels have their size
        assert open_scene(thin).geobox.affine.almost_equals(BOX.affine @ Affine.translation(20, 0), 1e-6)
    else:
        with pytest.raises(NoGeoreference, match="one pixel wide"):
            open_scene(thin)


def test_rotated_grids_are_told_by_the_geotransform() -> None:
    turned = GeoBox((96, 128), BOX.affine @ Affine.rotation(25), BOX.crs)
    coords = {"spatial_ref": coordinates(turned)["spatial_ref"]}
    assert open_scene(xarray.DataArray(default_image(), dims=("band", "y", "x"), coords=coords)).geobox == turned
    coords["y"] = ("y", np.arange(96) + 0.5, {"units": "pixel"})  # odc-geo
    coords["x"] = ("x", np.arange(128) + 0.5, {"units": "pixel"})
    array = xarray.DataArray(default_image(), dims=("band", "y", "x"), coords=coords)
    assert open_scene(array).geobox.affine.almost_equals(turned.affine, 1e-9)
    cut = open_scene(array.isel(x=slice(7, None), y=slice(3, None)))
    assert cut.geobox.affine.almost_equals(turned.affine @ Affine.translation(7, 3), 1e-9)


def test_nodata_and_names_of_bands_are_read() -> None:
    image = np.concatenate([default_image()[::-1], default_image()[:1]]).astype(np.uint16) * 9
    image[:, :20] = 0
    array = made(image, attrs={"_FillValue": 0, "long_name": ("blue", "green", "red", "nir")})
    scene = open_scene(array)
    assert scene.bands == (3, 2, 1)
    chip = scene.read_window(scene.window, (96, 128))
    assert not chip.valid[:20].any()
    assert chip.valid[20:].all()
    named = open_scene(made(image, coords={"band": ["nir", "blue", "red", "green"]}))
    assert named.bands == (3, 4, 2)
    with pytest.raises(BandsMissing, match="has 4 bands"):
        open_scene(made(image))
    assert open_scene(made(image), bands=(3, 2, 1)).bands == (3, 2, 1)


@pytest.mark.parametrize(
    ("array", "error", "what"),
    [
        (made().drop_vars("spatial_ref"), NoGeoreference, "has a geotransform but no CRS"),
        (made().drop_vars(["x", "y", "spatial_ref"]), NoGeoreference, "no coordinates along y and x"),
        (made().assign_coords(x=np.arange(128) ** 2.0), NoGeoreference, "not evenly spaced"),
        (made().assign_coords(x=[np.nan] * 128), NoGeoreference, "not evenly spaced"),
        (made().assign_coords(x=list(map(str, range(128)))), NoGeoreference, "not numbers"),
        (made(np.ones((2, 3, 96, 128)), ("time", "band", "y", "x")), SourceError, "dimensions time 2, band 3, y 96"),
        (made(default_image().astype(str)), SourceError, "holds <U"),
    ],
    ids=["crs", "nothing", "uneven", "nan", "text", "dims", "strings"],
)
def test_what_has_no_place_is_refused(array: Any, error: type[Exception], what: str) -> None:
    with pytest.raises(error, match=what) as caught:
        open_scene(array)
    assert "the DataArray" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_crs_can_be_said() -> None:
    assert open_scene(made().drop_vars("spatial_ref"), crs="EPSG:32633").crs.epsg == 32633


@pytest.mark.parametrize("kind", ["rgb", "uint16", "int16", "float32", "epsg4326", "south_up", "rotated"])
@pytest.mark.filterwarnings("ignore")
def test_what_rioxarray_opens_is_what_the_file_is(kind: str, tmp_path: Path) -> None:
    rioxarray = pytest.importorskip("rioxarray")
    path = make(kind, tmp_path)
    with rioxarray.open_rasterio(path) as array:
        scene = open_scene(array)
    file = open_scene(path)
    assert scene.geobox == file.geobox
    for size in ((96, 128), 37):
        one, other = scene.read_window(scene.window, size), file.read_window(file.window, size)
        np.testing.assert_array_equal(one.pixels, other.pixels)
        np.testing.assert_array_equal(one.valid, other.valid)
    with rasterio.open(path) as dataset:
        assert scene.data_bands == dataset.indexes
