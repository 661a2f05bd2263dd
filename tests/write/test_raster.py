from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import rasterio.shutil
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize
from shapely import box
from shapely.affinity import affine_transform

from hybridseg.errors import OutputError, SourceError
from hybridseg.types import Window
from hybridseg.write import raster
from hybridseg.write.raster import heatmap_sink, open_heatmap, read_provenance, write_classes
from hybridseg.write.style import color_table

UTM = "EPSG:32633"
PROVENANCE = {"hybridseg": "0.1.0", "theme_yaml": "a: <&>\n"}
ORIGIN = Affine.translation(500_000, 5_000_000)
TRANSFORMS = {
    "north-up": ORIGIN @ Affine.scale(0.5, -0.5),
    "south-up": ORIGIN @ Affine.scale(0.5, 0.5),
    "rotated": ORIGIN @ Affine.rotation(30) @ Affine.scale(0.5, -0.5),
}
every_grid = pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=list(TRANSFORMS))


def grid(transform: Affine, height: int = 700, width: int = 900) -> GeoBox:
    return GeoBox((height, width), transform, UTM)


def features(geobox: GeoBox, *rows: tuple[str, float, tuple[float, float, float, float]]) -> gpd.GeoDataFrame:
    """Rows of (class, score, (col0, row0, col1, row1) in pixels of the grid)."""
    t = geobox.affine
    return gpd.GeoDataFrame(
        {"id": [str(k) for k in range(len(rows))], "class": [r[0] for r in rows], "score": [r[1] for r in rows]},
        geometry=[affine_transform(box(*r[2]), [t.a, t.b, t.d, t.e, t.c, t.f]) for r in rows],
        crs=UTM,
    )


@every_grid
def test_classes_fall_on_their_pixels(transform: Affine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raster, "_BLOCK_PX", 256)  # outlines cross blocks
    geobox = grid(transform)
    frame = features(geobox, ("water", 0.9, (200, 100, 600, 300)), ("road", 0.5, (0, 0, 250, 250)))
    path = write_classes(frame, tmp_path / "a.tif", geobox, ["road", "water"], PROVENANCE)
    with rasterio.open(path) as source:
        pixels = source.read(1)
        assert GeoBox.from_rio(source) == geobox
        assert source.transform == transform
    wanted = np.zeros((700, 900), np.uint8)
    wanted[:250, :250] = 1
    wanted[100:300, 200:600] = 2  # the surer one lies on top
    np.testing.assert_array_equal(pixels, wanted)


def test_class_raster_is_a_cog_with_palette_and_names(tmp_path: Path) -> None:
    geobox = grid(TRANSFORMS["north-up"], 1200, 1100)
    classes = ["road", "farm & <field>"]
    frame = features(geobox, ("road", 0.9, (0, 0, 700, 900)))
    path = write_classes(frame, tmp_path / "a.tif", geobox, classes, PROVENANCE)
    with rasterio.open(path) as source:
        assert source.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert source.compression is not None
        assert source.compression.name == "deflate"
        assert (source.dtypes, source.nodata, source.overviews(1)) == (("uint8",), 0, [2, 4])
        colours = source.colormap(1)
        assert {k: colours[k] for k in range(3)} == color_table(classes)
        assert source.tags(1)["class_2"] == classes[1]
        assert set(np.unique(source.read(1, out_shape=(300, 275)))) == {0, 1}
    assert read_provenance(path) == PROVENANCE
    rasterio.shutil.copy(path, tmp_path / "a.vrt", driver="VRT")  # what GDAL, so QGIS, takes for names
    vrt = (tmp_path / "a.vrt").read_text()
    assert "<Category>road</Category>" in vrt
    assert "<Category>farm &amp; &lt;field&gt;</Category>" in vrt


def test_order_of_rows_does_not_matter(tmp_path: Path) -> None:
    geobox = grid(TRANSFORMS["north-up"])
    places = [(k, k, k + 100, k + 100) for k in (0, 50, 80)]
    scores = [0.5, 0.5, float("nan")]
    frame = features(geobox, *zip("aba", scores, places, strict=True))
    write_classes(frame, tmp_path / "a.tif", geobox, ["a", "b"], {})
    write_classes(frame[::-1], tmp_path / "b.tif", geobox, ["a", "b"], {})
    with rasterio.open(tmp_path / "a.tif") as one, rasterio.open(tmp_path / "b.tif") as other:
        np.testing.assert_array_equal(one.read(), other.read())
        assert one.read(1)[75, 75] == 2
        assert one.read(1)[140, 140] == 2  # no score is the least
        assert one.read(1)[170, 170] == 1


def test_features_in_another_crs(tmp_path: Path) -> None:
    geobox = grid(TRANSFORMS["north-up"])
    frame = features(geobox, ("a", 0.9, (100, 100, 300, 300)))
    path = write_classes(frame.to_crs(4326), tmp_path / "a.tif", geobox, ["a"], {})
    with rasterio.open(path) as source:
        assert source.read(1)[102:298, 102:298].all()
        assert np.count_nonzero(source.read(1)) == pytest.approx(40_000, rel=0.02)


def test_no_features(tmp_path: Path) -> None:
    geobox = grid(TRANSFORMS["north-up"], 3, 5)
    path = write_classes(features(geobox), tmp_path / "a.tif", geobox, ["a"], {})
    with rasterio.open(path) as source:
        assert source.shape == (3, 5)
        assert not source.read().any()


def test_class_errors(tmp_path: Path) -> None:
    geobox = grid(TRANSFORMS["north-up"])
    frame = features(geobox, ("water", 0.9, (0, 0, 9, 9)))
    with pytest.raises(OutputError, match=r"choose one of \.tif"):
        write_classes(frame, tmp_path / "a.png", geobox, ["water"], {})
    with pytest.raises(OutputError, match="255 at most"):
        write_classes(frame, tmp_path / "a.tif", geobox, [str(k) for k in range(256)], {})
    with pytest.raises(ValueError, match=r"\['water'\] that are not in"):
        write_classes(frame, tmp_path / "a.tif", geobox, ["road"], {})
    assert list(tmp_path.iterdir()) == []


def test_class_raster_says_what_it_is_to_people(tmp_path: Path) -> None:
    geobox = grid(TRANSFORMS["north-up"], 3, 5)
    credits = [{"of": "imagery", "attribution": "a city", "licence": "CC-BY-4.0"}]
    provenance = {"hybridseg": "0.1.0", "source": "town.tif", "credits": credits}
    path = write_classes(features(geobox), tmp_path / "a.tif", geobox, ["road"], provenance)
    with rasterio.open(path) as source:
        tags = source.tags()
    assert tags["TIFFTAG_DOCUMENTNAME"] == "road (class raster) of town.tif"
    assert "Made by hybridseg 0.1.0" in tags["TIFFTAG_IMAGEDESCRIPTION"]
    assert tags["TIFFTAG_COPYRIGHT"] == "imagery: a city (CC-BY-4.0)"


def spoil(path: Path, level: int) -> None:
    """Overwrite the first tile of the raster or of one of its overviews."""
    with rasterio.open(path, **({} if level < 0 else {"overview_level": level})) as source:
        offset = int(
            source.tags(1, ns="TIFF").get("BLOCK_OFFSET_0_0")
            or source.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", 1, None)
        )
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * 8)


@pytest.mark.parametrize("level", [-1, 0, 1])
def test_a_damaged_raster_replaces_nothing(level: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    geobox = grid(TRANSFORMS["north-up"], 1200, 1100)
    frame = features(geobox, ("a", 0.9, (0, 0, 700, 900)))
    former = write_classes(frame, tmp_path / "a.tif", geobox, ["a"], {}).read_bytes()
    copy = raster._to_cog

    def damaged(source: Path, target: Path, **options: str) -> None:
        copy(source, target, **options)
        spoil(target, level)

    monkeypatch.setattr(raster, "_to_cog", damaged)
    with pytest.raises(OutputError, match="was damaged while it was written"):
        write_classes(frame, tmp_path / "a.tif", geobox, ["a"], {"other": 1})
    assert (tmp_path / "a.tif").read_bytes() == former
    assert {path.name for path in tmp_path.iterdir()} == {"a.tif", "a.tif.aux.xml"}


def test_pixels_lost_on_the_way_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    geobox = grid(TRANSFORMS["north-up"])
    frame = features(geobox, ("a", 0.9, (0, 0, 700, 900)))

    def forgetful(source: Path, target: Path, **options: str) -> None:
        with raster._create(target, geobox, count=1, nodata=0):
            pass  # sound, but empty

    monkeypatch.setattr(raster, "_to_cog", forgetful)
    with pytest.raises(OutputError, match="pixels are lost"):
        write_classes(frame, tmp_path / "a.tif", geobox, ["a"], {})
    assert not list(tmp_path.iterdir())


@settings(max_examples=10, deadline=None)
@given(block=st.integers(7, 90), seed=st.integers(0, 9))
def test_class_raster_does_not_depend_on_blocks(
    block: int, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    geobox = grid(TRANSFORMS["rotated"], 80, 100)
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 80, (20, 2))
    rows = [("a", float(k), (*c, *(c + rng.uniform(1, 30, 2)))) for k, c in enumerate(corners)]
    frame = features(geobox, *rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(raster, "_BLOCK_PX", block)
        path = write_classes(frame, tmp_path_factory.mktemp("blocks") / "a.tif", geobox, ["a"], {})
    with rasterio.open(path) as source:
        np.testing.assert_array_equal(source.read(1), rasterize(frame.geometry, (80, 100), transform=geobox.affine))


def write_heatmap(path: Path, geobox: GeoBox, bands: list[str], size: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """A heatmap of noise in windows of odd places, with a hole; gives what went in."""
    rng = np.random.default_rng(0)
    values = rng.random((len(bands), geobox.height, geobox.width), np.float32)
    valid = np.ones((geobox.height, geobox.width), bool)
    valid[40:60, 280:320] = False
    values[:, ~valid] = np.nan
    whole = Window(0, 0, geobox.width, geobox.height)
    with heatmap_sink(path, geobox, bands, PROVENANCE) as sink:
        for row in range(0, geobox.height, size):
            for col in range(0, geobox.width, size):
                window = Window(col, row, size, size).clip(whole)
                roi = window.slices(whole)
                sink.write(values[:, *roi], valid[roi], window)
    return values, valid


@every_grid
@pytest.mark.parametrize("count", [1, 3, 4])  # GDAL takes three for RGB, and a fourth for alpha
def test_heatmap_round_trip(transform: Affine, count: int, tmp_path: Path) -> None:
    geobox, bands = grid(transform), [f"class {k}:extent" for k in range(count)]
    values, valid = write_heatmap(tmp_path / "h.tif", geobox, bands)
    heatmap = open_heatmap(tmp_path / "h.tif")
    assert heatmap.geobox == geobox
    assert heatmap.bands == tuple(bands)
    read, seen = heatmap.read(Window(0, 0, 900, 700))
    np.testing.assert_array_equal(seen, valid)
    assert read.dtype == np.float32
    assert read.shape == values.shape
    assert np.abs(read - values)[:, valid].max() <= 1 / 508 + 1e-6
    assert not read[:, ~valid].any()
    assert read_provenance(tmp_path / "h.tif") == PROVENANCE
    assert [path.name for path in tmp_path.iterdir()] == ["h.tif"]


def test_heatmap_is_a_cog_with_averaged_overviews(tmp_path: Path) -> None:
    geobox = grid(TRANSFORMS["north-up"], 1030, 1100)
    values, _ = write_heatmap(tmp_path / "h.tif", geobox, ["a", "b", "c", "d"])
    with rasterio.open(tmp_path / "h.tif") as source:
        assert source.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert (source.nodata, source.block_shapes[0], source.overviews(1)) == (255, (512, 512), [2, 4])
    with rasterio.open(tmp_path / "h.tif", overview_level=0) as source:
        for band in range(4):
            quarter = values[band, 500:600, 500:600].reshape(50, 2, 50, 2).mean(axis=(1, 3))
            assert np.abs(source.read(band + 1)[250:300, 250:300] / 254 - quarter).max() < 1.1 / 254


@settings(max_examples=30, deadline=None)
@given(col=st.integers(-50, 60), row=st.integers(-50, 60), width=st.integers(1, 90), height=st.integers(1, 90))
def test_any_window_reads_the_same_pixels(col: int, row: int, width: int, height: int, small_heatmap: Path) -> None:
    heatmap, window = open_heatmap(small_heatmap), Window(col, row, width, height)
    whole, _ = heatmap.read(Window(0, 0, 48, 40))
    values, valid = heatmap.read(window, ["b"])
    padded = np.zeros((40 + 220, 48 + 220), np.float32)  # windows reach up to 250
    padded[100:140, 100:148] = whole[1]
    roi = window.slices(Window(-100, -100, 0, 0))
    np.testing.assert_array_equal(values[0], padded[roi])
    inside = np.zeros(padded.shape, bool)
    inside[100:140, 100:148] = True
    np.testing.assert_array_equal(valid, inside[roi])


@pytest.fixture(scope="module")
def small_heatmap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("heatmap") / "h.tif"
    write_heatmap(path, grid(TRANSFORMS["north-up"], 40, 48), ["a", "b"], size=17)
    return path


def test_bands_come_in_the_order_asked_for(small_heatmap: Path) -> None:
    heatmap, window = open_heatmap(small_heatmap), Window(3, 4, 20, 20)
    both, _ = heatmap.read(window, ["b", "a"])
    np.testing.assert_array_equal(both[::-1], heatmap.read(window)[0])
    assert pickle.loads(pickle.dumps(heatmap)) == heatmap


def test_what_was_not_written_is_not_valid(tmp_path: Path) -> None:
    geobox = grid(TRANSFORMS["north-up"])
    with heatmap_sink(tmp_path / "h.tif", geobox, ["a"]) as sink:
        sink.write(np.full((1, 50, 50), 1.7), np.ones((50, 50), bool), Window(-20, 680, 50, 50))  # beyond two edges
        sink.write(np.zeros((1, 9, 9)), np.ones((9, 9), bool), Window(2000, 0, 9, 9))  # beyond all
    values, valid = open_heatmap(tmp_path / "h.tif").read(Window(0, 0, 900, 700))
    assert valid.sum() == 30 * 20
    assert valid[680:, :30].all()
    assert (values[0][valid] == 1).all()


def test_window_must_fit_its_values(tmp_path: Path) -> None:
    def write(values: np.ndarray, valid: np.ndarray) -> None:
        with heatmap_sink(tmp_path / "h.tif", grid(TRANSFORMS["north-up"]), ["a", "b"]) as sink:
            sink.write(values, valid, Window(0, 0, 8, 8))

    for values, valid in (((1, 8, 8), (8, 8)), ((2, 8, 9), (8, 8)), ((2, 8, 8), (1, 8, 8))):
        with pytest.raises(ValueError, match="of 2 bands"):
            write(np.zeros(values), np.ones(valid, bool))
    assert list(tmp_path.iterdir()) == []  # the failed sink left nothing


@pytest.mark.parametrize("profile", [{"dtype": "float32"}, {"dtype": "uint8"}, {"dtype": "uint8", "nodata": 255}])
def test_other_rasters_are_no_heatmap(profile: dict[str, Any], tmp_path: Path) -> None:
    settings = {"driver": "GTiff", "width": 8, "height": 8, "count": 1, "crs": UTM, "transform": ORIGIN}
    with rasterio.open(tmp_path / "a.tif", "w", **settings, **profile):
        pass
    with pytest.raises(SourceError, match="is no heatmap"):
        open_heatmap(tmp_path / "a.tif")
    with pytest.raises(SourceError, match="cannot be opened"):
        open_heatmap(tmp_path / "missing.tif")
