from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from PIL import Image
from rasterio.transform import Affine

from hybridseg.errors import EmptySource, NoGeoreference, OutputError, SourceError
from hybridseg.evaluation.picture import Layer, draw_features
from hybridseg.types import Window

NORTH_UP = Affine(0.5, 0, 448_000, 0, -0.5, 39_000)
ROTATED = Affine(0.4, 0.3, 448_000, 0.3, -0.4, 39_000)


def raster(
    folder: Path, pixels: np.ndarray, transform: Affine = NORTH_UP, crs: str | None = "EPSG:32636", **profile: object
) -> Path:
    path = folder / "scene.tif"
    bands, height, width = pixels.shape
    with rasterio.open(path, "w", "GTiff", width, height, bands, crs, transform, pixels.dtype, **profile) as target:
        target.write(pixels)
    return path


def grey(height: int = 64, width: int = 64, value: int = 90, bands: int = 3, dtype: str = "uint8") -> np.ndarray:
    return np.full((bands, height, width), value, dtype)


def outline(transform: Affine, box_px: tuple[float, float, float, float]) -> gpd.GeoDataFrame:
    box = shapely.affinity.affine_transform(shapely.box(*box_px), transform.to_shapely())
    return gpd.GeoDataFrame({"id": ["a"]}, geometry=[box], crs=32636)


def shown(path: Path) -> np.ndarray:
    """(H, W, 3) of the picture."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def red_pixels(path: Path) -> np.ndarray:
    """(rows, columns) of red in the picture."""
    rgb = shown(path)
    return np.argwhere((rgb[..., 0] > 180) & (rgb[..., 1] < 60) & (rgb[..., 2] < 60))


@pytest.mark.parametrize("transform", [NORTH_UP, ROTATED, Affine(0.5, 0, 448_000, 0, 0.5, 39_000)])
@pytest.mark.parametrize("crs", [32636, 4326, 3857])
def test_outlines_lie_where_they_belong(tmp_path: Path, transform: Affine, crs: int) -> None:
    scene = raster(tmp_path, grey(), transform)
    picture = tmp_path / "map.png"
    draw_features(scene, [Layer(outline(transform, (20, 8, 50, 30)).to_crs(crs), "red", "")], picture, max_px=1024)
    assert shown(picture).shape == (768, 768, 3)  # 12 times 64
    red = red_pixels(picture) / 12
    np.testing.assert_allclose(red.min(axis=0), (8, 20), atol=0.2)
    np.testing.assert_allclose(red.max(axis=0), (30, 50), atol=0.2)
    inside = (red > (9, 21)).all(axis=1) & (red < (29, 49)).all(axis=1)
    assert not inside.any()


def test_lines_are_thin_and_dashes_have_gaps(tmp_path: Path) -> None:
    scene = raster(tmp_path, grey())
    house = outline(NORTH_UP, (20, 8, 50, 30))
    for dashed in (False, True):
        draw_features(scene, [Layer(house, "red", "", dashed)], tmp_path / f"{dashed}.png", max_px=1024)
    solid, dashed = (len(red_pixels(tmp_path / f"{kind}.png")) for kind in (False, True))
    length = 2 * (30 + 22) * 12
    assert 0.9 * length < solid < 2.5 * length
    assert 0.3 * solid < dashed < 0.8 * solid


def test_a_window_shows_its_part(tmp_path: Path) -> None:
    scene = raster(tmp_path, grey())
    picture = tmp_path / "map.png"
    window = Window(16, 4, 48, 60)
    draw_features(scene, [Layer(outline(NORTH_UP, (20, 8, 50, 30)), "red", "")], picture, 640, window)
    assert shown(picture).shape == (60 * 8, 48 * 8, 3)
    np.testing.assert_allclose(red_pixels(picture).min(axis=0) / 8, (4, 4), atol=0.3)


def test_large_scenes_are_decimated_and_small_ones_not_enlarged_beyond_the_limit(tmp_path: Path) -> None:
    scene = raster(tmp_path, grey(90, 300))
    for max_px, size in ((100, (30, 100)), (300, (90, 300)), (799, (90, 300)), (800, (180, 600))):
        draw_features(scene, [], tmp_path / "map.png", max_px)
        assert shown(tmp_path / "map.png").shape == (*size, 3)


def test_bytes_are_shown_as_they_are_and_others_stretched(tmp_path: Path) -> None:
    draw_features(raster(tmp_path, grey(value=90)), [], tmp_path / "map.png")
    assert (shown(tmp_path / "map.png") == 90).all()

    ramp = np.broadcast_to(np.linspace(200, 3000, 64).astype("uint16"), (3, 64, 64)).copy()
    ramp[..., :8] = 65_000  # nodata, which must not set the stretch
    draw_features(raster(tmp_path, ramp, nodata=65_000), [], tmp_path / "map.png", 64)
    row = shown(tmp_path / "map.png")[20, :, 0]
    assert (row[:8] == 0).all()
    assert row[-1] == 255
    assert int(row[36]) == pytest.approx(128, abs=8)


def test_the_first_three_bands_are_red_green_and_blue(tmp_path: Path) -> None:
    bands = np.stack([grey(value=value)[0] for value in (200, 100, 50, 7)])
    draw_features(raster(tmp_path, bands), [], tmp_path / "map.png")
    assert (shown(tmp_path / "map.png") == (200, 100, 50)).all()
    ramps = np.stack([np.tile(np.linspace(0, most, 64, dtype="uint16"), (64, 1)) for most in (4000, 1000, 300)])
    draw_features(raster(tmp_path, ramps), [], tmp_path / "map.png", 64)
    assert shown(tmp_path / "map.png")[5, 32] == pytest.approx(130, abs=3)  # each band is stretched by itself


@pytest.mark.parametrize(
    ("pixels", "value"),
    [
        (grey(bands=1), 90),
        (grey(bands=2, dtype="int16"), 0),  # of one value only, so nothing to stretch
        (np.full((3, 64, 64), np.nan, "float32"), 0),
    ],
)
def test_single_bands_and_empty_scenes_are_drawn(tmp_path: Path, pixels: np.ndarray, value: int) -> None:
    draw_features(raster(tmp_path, pixels), [], tmp_path / "map.png")
    picture = shown(tmp_path / "map.png")
    assert picture.shape == (1536, 1536, 3)
    assert (picture == value).all()


def test_the_legend_names_layers_that_have_a_label(tmp_path: Path) -> None:
    scene = raster(tmp_path, grey(256, 256))
    nothing = outline(NORTH_UP, (0, 0, 1, 1)).iloc[:0]
    corner = (slice(1350, 1536), slice(0, 200))
    draw_features(scene, [Layer(nothing, "red", "")], tmp_path / "bare.png")
    draw_features(scene, [Layer(nothing, "red", "truth")], tmp_path / "named.png")
    assert (shown(tmp_path / "bare.png")[corner] == 90).all()
    assert (shown(tmp_path / "named.png")[corner] > 200).any()
    assert len(red_pixels(tmp_path / "named.png")) > 10


def test_holes_parts_lines_and_gaps_in_the_layer(tmp_path: Path) -> None:
    places = (20, 8, 50, 30), (2, 40, 8, 50), (2, 2, 9, 5)
    house, other, road = (outline(NORTH_UP, place).geometry.iloc[0] for place in places)
    mixed = [
        house - house.buffer(-3, join_style="mitre"),
        shapely.MultiPolygon([other]),
        road.exterior,
        house.centroid,
        None,
        shapely.Polygon(),
    ]
    layer = Layer(gpd.GeoDataFrame(geometry=mixed, crs=32636), "red", "")
    draw_features(raster(tmp_path, grey()), [layer], tmp_path / "map.png", 1024)
    red = shapely.points(red_pixels(tmp_path / "map.png")[:, ::-1] / 12)
    drawn = [shapely.box(*place).exterior for place in (*places, (26, 14, 44, 24))]
    assert shapely.distance(red, shapely.union_all(drawn)).max() < 0.3
    for ring in drawn:
        stations = shapely.line_interpolate_point(ring, np.arange(0, ring.length, 0.5))
        assert shapely.distance(stations, shapely.union_all(red)).max() < 0.3


def test_errors_are_one_line_and_leave_no_file(tmp_path: Path) -> None:
    scene = raster(tmp_path, grey())
    with pytest.raises(OutputError, match=r"\.png"):
        draw_features(scene, [], tmp_path / "map.jpg")
    with pytest.raises(OutputError, match="folder"):
        draw_features(scene, [], tmp_path / "nowhere" / "map.png")
    with pytest.raises(SourceError, match="cannot open"):
        draw_features(tmp_path / "no.tif", [], tmp_path / "map.png")
    with pytest.raises(EmptySource, match="64 x 64"):
        draw_features(scene, [], tmp_path / "map.png", window=Window(64, 0, 10, 10))
    with pytest.raises(NoGeoreference, match="layer"):
        draw_features(
            scene, [Layer(gpd.GeoDataFrame(geometry=[shapely.box(0, 0, 1, 1)]), "red", "")], tmp_path / "map.png"
        )
    with pytest.raises(NoGeoreference, match="no CRS"):
        draw_features(raster(tmp_path, grey(), crs=None), [], tmp_path / "map.png")
    assert [path.name for path in tmp_path.iterdir()] == ["scene.tif"]
