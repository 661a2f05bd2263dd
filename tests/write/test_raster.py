from __future__ import annotations

from functools import partial
from pathlib import Path

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

from hybridseg import cog
from hybridseg.cog import blocks
from hybridseg.errors import OutputError
from hybridseg.write.raster import write_classes
from hybridseg.write.style import color_table
from tests.rasters import TRANSFORMS, raster_provenance

UTM = "EPSG:32633"
PROVENANCE = {"hybridseg": "0.1.0", "theme_yaml": "a: <&>\n"}
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
    monkeypatch.setattr(cog, "blocks", partial(blocks, side_px=256))  # outlines cross blocks
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
    assert raster_provenance(path) == PROVENANCE
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
    copy = cog.copy_to_cog

    def damaged(source: Path, target: Path, **options: str) -> None:
        copy(source, target, **options)
        spoil(target, level)

    monkeypatch.setattr(cog, "copy_to_cog", damaged)
    with pytest.raises(OutputError, match="was damaged while it was written"):
        write_classes(frame, tmp_path / "a.tif", geobox, ["a"], {"other": 1})
    assert (tmp_path / "a.tif").read_bytes() == former
    assert {path.name for path in tmp_path.iterdir()} == {"a.tif", "a.tif.aux.xml", "a.qmd", "a.qml"}


def test_pixels_lost_on_the_way_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    geobox = grid(TRANSFORMS["north-up"])
    frame = features(geobox, ("a", 0.9, (0, 0, 700, 900)))

    def forgetful(source: Path, target: Path, **options: str) -> None:
        with rasterio.open(source) as whole, rasterio.open(target, "w", **whole.profile):
            pass  # sound, but empty

    monkeypatch.setattr(cog, "copy_to_cog", forgetful)
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
        patch.setattr(cog, "blocks", partial(blocks, side_px=block))
        path = write_classes(frame, tmp_path_factory.mktemp("blocks") / "a.tif", geobox, ["a"], {})
    with rasterio.open(path) as source:
        np.testing.assert_array_equal(source.read(1), rasterize(frame.geometry, (80, 100), transform=geobox.affine))
