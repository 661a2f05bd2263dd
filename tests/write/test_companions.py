"""Files beside a result: written with it, refused where they are somebody else's."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import pytest
import shapely
from odc.geo.geobox import GeoBox

from hybridseg.cli import main
from hybridseg.errors import OutputError
from hybridseg.write.raster import write_classes
from hybridseg.write.result import write_result
from hybridseg.write.stac import item_beside
from tests.conftest import geobox


@pytest.fixture
def house() -> gpd.GeoDataFrame:
    numbers = dict.fromkeys(("score", "iou_pred", "stability", "agreement", "area_m2"), 0.5)
    columns = {"id": ["h"], "class": ["building"], "origin": ["coarse"], **{k: [v] for k, v in numbers.items()}}
    return gpd.GeoDataFrame(columns, geometry=[shapely.box(500_002, 2_999_980, 500_012, 2_999_990)], crs="EPSG:32645")


def write(house: gpd.GeoDataFrame, path: Path, box: GeoBox) -> None:
    if path.suffix == ".tif":
        write_classes(house, path, box, ["building"], {})
    else:
        write_result(house, path, {})


@pytest.mark.parametrize("suffix", [".parquet", ".fgb", ".geojson", ".tif"])
def test_metadata_of_somebody_else_stays_and_nothing_is_written(suffix: str, house: gpd.GeoDataFrame, tmp_path: Path):
    qmd = tmp_path / "scene.qmd"
    qmd.write_text("<qgis><title>My scene</title></qgis>")
    with pytest.raises(OutputError, match=r"scene\.qmd was not written by hybridseg"):
        write(house, tmp_path / f"scene{suffix}", geobox())
    assert [file.name for file in tmp_path.iterdir()] == ["scene.qmd"]
    assert "My scene" in qmd.read_text()


@pytest.mark.parametrize("suffix", [".parquet", ".fgb", ".geojson", ".tif"])
def test_our_own_metadata_are_replaced_even_when_qgis_has_saved_them(
    suffix: str, house: gpd.GeoDataFrame, tmp_path: Path
):
    path, qmd = tmp_path / f"map{suffix}", tmp_path / "map.qmd"
    write(house, path, geobox())
    qmd.write_text(qmd.read_text().replace("<title>", "<title>edited ").replace("DOCTYPE", "DOCTYPE "))
    write(house, path, geobox())
    assert "edited" not in qmd.read_text()


@pytest.mark.parametrize("suffix", [".parquet", ".fgb", ".geojson", ".tif"])
def test_our_style_is_replaced_and_one_that_a_person_saved_stays(suffix: str, house: gpd.GeoDataFrame, tmp_path: Path):
    path, style = tmp_path / f"map{suffix}", tmp_path / "map.qml"
    write(house, path, geobox())
    ours = style.read_text()
    style.write_text(ours.replace("#d55e00", "#000000").replace("213,94,0", "0,0,0"))
    write(house, path, geobox())
    assert style.read_text() == ours
    style.write_text(mine := "<qgis>as QGIS saved it</qgis>")
    write(house, path, geobox())
    assert style.read_text() == mine


def test_a_geopackage_needs_no_file_beside_it(house: gpd.GeoDataFrame, tmp_path: Path):
    (tmp_path / "scene.qmd").write_text("mine")
    write(house, tmp_path / "scene.gpkg", geobox())
    assert (tmp_path / "scene.qmd").read_text() == "mine"


def test_an_item_of_somebody_else_stays(tmp_path: Path):
    item = tmp_path / "scene.stac.json"
    item.write_text('{"type": "Feature", "id": "scene"}')
    with (
        pytest.raises(OutputError, match=r"scene\.stac\.json was not written by hybridseg"),
        item_beside(tmp_path / "scene.gpkg", geobox(), ["building"], ["id"], {}),
    ):
        pass
    assert "hybridseg" not in item.read_text()
    item.unlink()
    with item_beside(tmp_path / "scene.gpkg", geobox(), ["building"], ["id"], {}):
        pass
    with item_beside(tmp_path / "scene.gpkg", geobox(), ["building"], ["id", "class"], {}):
        pass


@pytest.mark.parametrize(("name", "out", "more"), [("a.qmd", "a.fgb", []), ("a.stac.json", "a.gpkg", ["--stac"])])
def test_extract_finds_out_before_the_work(
    name: str, out: str, more: list[str], blocks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / name).write_text("mine")
    assert main(["extract", str(blocks), str(tmp_path / out), *more]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"{name} was not written by hybridseg" in said
    assert (tmp_path / name).read_text() == "mine"
    assert not (tmp_path / out).exists()


def test_a_folder_in_their_place_is_refused(house: gpd.GeoDataFrame, tmp_path: Path):
    (tmp_path / "map.qmd").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        write_result(house, tmp_path / "map.fgb", {})
