"""The verb `extract` from Python, with doubles for the networks: what it refuses, writes, keeps, and starts from."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pytest
import rasterio
import shapely
import yaml
from odc.geo.geobox import GeoBox

from hybridseg import HybridsegError, Models, Refined, extract, load_theme, open_scene
from hybridseg.errors import OutputError, PromptsError, RunError, ThemeError
from hybridseg.read.opening import SceneOnGrid
from hybridseg.shape import AsTraced, Lines
from hybridseg.tables import Prompts
from hybridseg.theme import Theme
from hybridseg.types import FEATURE_COLUMNS, Chip
from hybridseg.where.gate import Gate
from hybridseg.write.result import read_provenance, read_result
from tests.conftest import BLOCKS, blocks_image
from tests.doubles import Bright, Threshold
from tests.rasters import make
from tests.read.http_server import serving


class Watched(Threshold):
    """The refiner's double, which counts what it encodes; where broken it fails as a full GPU does."""

    encoded = 0
    broken = False

    def encode(self, chip: Chip) -> np.ndarray:
        if Watched.broken:
            raise RuntimeError("out of memory")
        Watched.encoded += 1
        return super().encode(chip)


@pytest.fixture(autouse=True)
def _doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever model is asked for, the doubles come; `--refiner none` is none."""

    def doubles(classifier: object, refiner: object = "none", *_: object) -> Models:
        return Models(Bright(), None if refiner == "none" else Watched())

    monkeypatch.setattr(Models, "open", doubles)
    monkeypatch.setattr(Watched, "encoded", 0)
    monkeypatch.setattr(Watched, "broken", False)


@pytest.fixture
def theme(tmp_path: Path) -> Path:
    """Buildings as traced, in a file."""
    return write_theme(tmp_path / "mine.yaml")


def write_theme(path: Path, **changes: Any) -> Path:
    theme = load_theme("buildings").model_copy(update={"name": path.stem, "shape": AsTraced(), **changes})
    path.write_text(theme.to_yaml())
    return path


def contents(folder: Path) -> dict[str, bytes | None]:
    """All files below a folder with their bytes, and all folders."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def refuses(folder: Path, said: str, *given: Any, error: type[HybridsegError] = OutputError, **named: Any) -> None:
    """Check that a call is refused in one line, before anything was classified, and leaves everything as it was."""
    before = contents(folder)
    with pytest.raises(error, match=said) as caught:
        extract(*given, **named)
    assert "\n" not in str(caught.value)
    assert contents(folder) == before
    assert Watched.encoded == 0


def same(one: gpd.GeoDataFrame, two: gpd.GeoDataFrame) -> None:
    assert list(one.columns) == list(two.columns)
    assert one.crs == two.crs
    pd.testing.assert_frame_equal(
        pd.DataFrame(one.drop(columns="geometry")), pd.DataFrame(two.drop(columns="geometry"))
    )
    assert shapely.equals(one.geometry.to_numpy(), two.geometry.to_numpy()).all()


# --- what is read is never written over -------------------------------------------------------------------------------


WAYS = {
    "the same name": lambda file, folder: file,
    "another spelling": lambda file, folder: folder / "." / ".." / folder.name / file.name,
    "another letter case": lambda file, folder: file.with_name(file.name.upper()),
}
LINKS = {
    "a symbolic link": lambda file, link: link.symlink_to(file),
    "a hard link": lambda file, link: link.hardlink_to(file),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_scene_is_not_written_over(way: str, blocks: Path, theme: Path, tmp_path: Path):
    out = WAYS[way](blocks, tmp_path)
    refuses(tmp_path, "is one of the inputs", blocks, out, theme=theme)


def as_scene(kind: str, blocks: Path) -> Any:
    match kind:
        case "path":
            return blocks
        case "scene":
            return open_scene(blocks)
        case "scene on another grid":
            scene = open_scene(blocks)
            return SceneOnGrid(scene, scene.geobox.zoom_out(1.5))
        case "dataset":
            return rasterio.open(blocks)
        case _:
            return str(blocks)


@pytest.mark.parametrize("kind", ["path", "text", "scene", "scene on another grid", "dataset"])
@pytest.mark.parametrize("link", LINKS)
def test_nor_is_it_by_a_link_however_it_is_given(kind: str, link: str, blocks: Path, theme: Path, tmp_path: Path):
    LINKS[link](blocks, tmp_path / "out.tif")
    LINKS[link](blocks, tmp_path / "out.gpkg")
    refuses(tmp_path, "is one of the inputs", as_scene(kind, blocks), tmp_path / "out.tif", theme=theme)
    refuses(tmp_path, "is one of the inputs", as_scene(kind, blocks), tmp_path / "out.gpkg", theme=theme)


def test_a_link_to_a_scene_leads_to_the_scene(blocks: Path, theme: Path, tmp_path: Path):
    (tmp_path / "link.tif").symlink_to(blocks)
    refuses(tmp_path, "is one of the inputs", tmp_path / "link.tif", blocks, theme=theme)


@pytest.mark.parametrize("link", LINKS)
def test_a_theme_is_not_written_over_by_a_link(link: str, blocks: Path, theme: Path, tmp_path: Path):
    other = write_theme(tmp_path / "other.yaml", label="building")
    for file in (theme, other):
        LINKS[link](file, tmp_path / f"{file.stem}.gpkg")
    for given in (theme, str(theme), f"{other},{theme}", [str(other), str(theme)]):
        refuses(tmp_path, "is one of the inputs", blocks, tmp_path / "mine.gpkg", theme=given)


def test_a_folder_called_as_a_theme_is_no_input(blocks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "buildings").mkdir()
    for _ in range(2):
        extract(blocks, "buildings/map.gpkg", theme="buildings")
    assert len(read_result(tmp_path / "buildings" / "map.gpkg")) == len(BLOCKS)


@pytest.mark.parametrize("link", LINKS)
def test_a_model_is_not_written_over(link: str, blocks: Path, tmp_path: Path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "weights.safetensors").write_bytes(b"weights")
    (model / "card.yaml").write_text("kind: classifier\n")
    write_theme(model / "theme.yaml", classifier=".")
    for k, file in enumerate(sorted(model.iterdir())):
        LINKS[link](file, tmp_path / f"{k}.gpkg")
        refuses(tmp_path, "is one of the inputs", blocks, tmp_path / f"{k}.gpkg", model=model)
        refuses(tmp_path, "is one of the inputs", blocks, tmp_path / f"{k}.gpkg", theme="buildings", model=str(model))
        refuses(tmp_path, "is one of the inputs", blocks, tmp_path / f"{k}.gpkg", theme="buildings", refiner=str(model))
        write_theme(tmp_path / "with.yaml", classifier=str(model))
        refuses(tmp_path, "is one of the inputs", blocks, tmp_path / f"{k}.gpkg", theme=tmp_path / "with.yaml")
    assert len(extract(blocks, model / "map.gpkg", model=model).features) == len(BLOCKS), "a new name in the folder"


@pytest.mark.parametrize("name", ["prompts.parquet", "PROMPTS.parquet", "out.gpkg", "map.gpkg"])
def test_prompts_are_not_written_over(name: str, blocks: Path, theme: Path, tmp_path: Path):
    extract(blocks, tmp_path / "map.gpkg", theme=theme, run=tmp_path)
    (tmp_path / "out.gpkg").symlink_to(tmp_path / "prompts.parquet")
    Watched.encoded = 0
    source = tmp_path / ("map.gpkg" if name == "map.gpkg" else "prompts.parquet")
    refuses(tmp_path, "is one of the inputs", blocks, tmp_path / name, theme=theme, from_prompts=source)


@pytest.mark.parametrize("name", ["heatmap.tif", "HEATMAP.tif", "heatmap-mine.tif"])
def test_work_is_not_left_over_the_scene(name: str, theme: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    scene = make("utm", tmp_path, blocks_image(), 0.3).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    refuses(tmp_path, "is one of the inputs", name, "map.gpkg", theme=theme, run=".")
    refuses(tmp_path, "is one of the inputs", open_scene(scene), "map.gpkg", theme=theme, run=tmp_path)
    extract(name, "map.gpkg", theme=theme, run="work")
    assert (tmp_path / "work" / "heatmap.tif").exists()


@pytest.mark.parametrize("link", LINKS)
def test_nor_is_it_by_a_link(link: str, blocks: Path, theme: Path, tmp_path: Path):
    (tmp_path / "work").mkdir()
    LINKS[link](blocks, tmp_path / "work" / "heatmap.tif")
    refuses(tmp_path, "is one of the inputs", blocks, tmp_path / "map.gpkg", theme=theme, run=tmp_path / "work")


def test_the_result_does_not_take_the_place_of_the_work(blocks: Path, theme: Path, tmp_path: Path):
    for name in ("prompts.parquet", "Refined.parquet", "heatmap.tif", "heatmap-water.tif"):
        refuses(tmp_path, "--run uses", blocks, tmp_path / name, theme=theme, run=tmp_path)
    extract(blocks, tmp_path / "map.parquet", theme=theme, run=tmp_path)


def test_prompts_and_work_may_share_a_folder(blocks: Path, theme: Path, tmp_path: Path):
    work = tmp_path / "work"
    extract(blocks, tmp_path / "a.gpkg", theme=theme, run=work)
    before = (work / "prompts.parquet").read_bytes()
    extract(blocks, tmp_path / "b.gpkg", theme=theme, from_prompts=work / "prompts.parquet", run=work)
    assert (work / "prompts.parquet").read_bytes() == before
    same(read_result(tmp_path / "a.gpkg"), read_result(tmp_path / "b.gpkg"))


def test_an_array_from_a_file_does_not_hide_the_file(blocks: Path, theme: Path, tmp_path: Path):
    array = pytest.importorskip("rioxarray").open_rasterio(blocks).load()
    array.encoding["source"] = str(blocks)  # as rioxarray says where it read
    refuses(tmp_path, "is one of the inputs", array, blocks, theme=theme)


# --- what cannot be done is said before the work ----------------------------------------------------------------------


def test_a_work_folder_that_cannot_be_made_is_refused(blocks: Path, theme: Path, tmp_path: Path):
    for folder in (blocks, blocks / "work", tmp_path / ("n" * 300)):
        refuses(tmp_path, "folder", blocks, theme=theme, run=folder)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_work_folder_without_permission_is_refused(blocks: Path, theme: Path, tmp_path: Path):
    (tmp_path / "closed").mkdir(mode=0o500)
    refuses(tmp_path, "permission", blocks, theme=theme, run=tmp_path / "closed" / "work")


def test_lines_are_no_raster(blocks: Path, theme: Path, tmp_path: Path):
    refuses(tmp_path, r"'\.tif': choose one of \.fgb", blocks, tmp_path / "map.tif", theme=theme, as_="lines")


def test_classes_that_no_theme_looks_for_are_refused(blocks: Path, theme: Path, tmp_path: Path):
    work = tmp_path / "work"
    extract(blocks, theme=theme, run=work)
    Watched.encoded = 0
    path = work / "prompts.parquet"
    rows = gpd.read_parquet(path)
    rows.loc[[1, 3], "class"] = "greenhouse"
    rows.to_parquet(path)
    said = r"classes that no theme looks for: greenhouse \(2\); the themes look for building"
    refuses(tmp_path, said, blocks, tmp_path / "map.gpkg", theme=theme, error=PromptsError, from_prompts=path)


def test_prompts_of_other_ground_are_refused(blocks: Path, theme: Path, tmp_path: Path):
    work = tmp_path / "work"
    extract(blocks, theme=theme, run=work)
    Watched.encoded = 0
    path = work / "prompts.parquet"
    rows = gpd.read_parquet(path)
    rows["support"] = rows["support"].translate(10_000)
    rows.to_parquet(path)
    said = rf"5 of 5 .* lie beside the scene .*{blocks.name}"
    refuses(tmp_path, said, blocks, tmp_path / "map.gpkg", theme=theme, error=PromptsError, from_prompts=path)


def test_an_old_map_outlives_a_run_in_which_every_window_fails(blocks: Path, theme: Path, tmp_path: Path):
    out = tmp_path / "map.gpkg"
    extract(blocks, out, theme=theme)
    before, Watched.broken = contents(tmp_path), True
    with pytest.raises(RunError, match="out of memory; nothing is written"):
        extract(blocks, out, theme=theme)
    assert contents(tmp_path) == before


# --- the result -------------------------------------------------------------------------------------------------------


def test_without_an_output_nothing_is_written(blocks: Path, theme: Path, tmp_path: Path):
    before = contents(tmp_path)
    result = extract(blocks, theme=theme)
    assert contents(tmp_path) == before
    assert list(result.features.columns) == list(FEATURE_COLUMNS)
    assert len(result.features) == result.summary.features == len(BLOCKS)
    assert result.summary.out is None
    assert result.nodes is None
    assert result.provenance["source"] == str(blocks)


@pytest.mark.parametrize("suffix", [".gpkg", ".parquet", ".fgb", ".geojson"])
def test_the_file_holds_the_result(suffix: str, blocks: Path, theme: Path, tmp_path: Path):
    out = tmp_path / f"map{suffix}"
    result = extract(blocks, out, theme=theme)
    assert result.summary.out == str(out)
    read = read_result(out).set_index("id")
    assert set(read.index) == set(result.features["id"])
    assert read_provenance(out) == json.loads(json.dumps(result.provenance))
    wanted = result.features.set_index("id").loc[read.index].to_crs(read.crs)
    assert shapely.area(shapely.symmetric_difference(read.geometry.to_numpy(), wanted.geometry.to_numpy())).sum() < 1e-3


def test_a_class_raster_holds_the_result(blocks: Path, theme: Path, tmp_path: Path):
    result = extract(blocks, tmp_path / "map.tif", theme=theme)
    with rasterio.open(tmp_path / "map.tif") as made, rasterio.open(blocks) as scene:
        assert (made.shape, made.transform, made.crs) == (scene.shape, scene.transform, scene.crs)
        inside = made.read(1) == 1
    assert inside.sum() * 0.09 == pytest.approx(result.features.area.sum(), rel=0.01)


def test_features_can_be_saved_and_put_together(blocks: Path, theme: Path, tmp_path: Path):
    result = extract(blocks, theme=theme)
    result.features.to_parquet(tmp_path / "saved.parquet")
    same(gpd.read_parquet(tmp_path / "saved.parquet"), result.features)
    both = pd.concat([result.features, extract(blocks, theme=theme).features])
    assert isinstance(both, gpd.GeoDataFrame)
    assert len(both) == 2 * len(BLOCKS)


def test_the_result_comes_in_another_crs(blocks: Path, theme: Path, tmp_path: Path):
    own = extract(blocks, theme=theme).features
    result = extract(blocks, tmp_path / "map.gpkg", theme=theme, crs="EPSG:4326")
    assert result.features.crs == read_result(tmp_path / "map.gpkg").crs == "EPSG:4326"
    assert result.features["area_m2"].tolist() == own["area_m2"].tolist()
    same(extract(blocks, theme=theme, crs="EPSG:4326", as_="polygons").features, own.to_crs(4326))


# --- lines ------------------------------------------------------------------------------------------------------------


def test_the_shape_may_be_chosen(blocks: Path, theme: Path, tmp_path: Path):
    traced = extract(blocks, theme=theme).features
    buildings = write_theme(tmp_path / "shaped.yaml", shape=load_theme("buildings").shape)
    same(extract(blocks, theme=buildings, shape="traced").features, traced)
    smooth, regular = (extract(blocks, theme=buildings, shape=how).features for how in ("smooth", "regular"))
    same(regular, extract(blocks, theme=buildings).features)
    assert not smooth.geometry.geom_equals(traced.geometry).any()
    assert (smooth.intersection(traced).area / smooth.union(traced).area).min() > 0.8


def test_a_shape_that_cannot_be_is_refused(blocks: Path, theme: Path, tmp_path: Path):
    refuses(
        tmp_path, "'round'; give one of traced, smooth, regular", blocks, theme=theme, shape="round", error=ThemeError
    )
    refuses(tmp_path, "no regular shapes; give --shape", blocks, theme=theme, shape="regular", error=ThemeError)
    for request in ({"shape": "traced"}, {"keep_trace": True}):
        refuses(tmp_path, "are for polygons", blocks, theme=theme, as_="lines", error=HybridsegError, **request)
    for suffix in (".fgb", ".tif"):
        refuses(tmp_path, "holds one layer", blocks, tmp_path / f"map{suffix}", theme=theme, keep_trace=True)


def test_the_trace_is_kept_beside(blocks: Path, theme: Path, tmp_path: Path):
    buildings = write_theme(tmp_path / "shaped.yaml", shape=load_theme("buildings").shape)
    result = extract(blocks, tmp_path / "map.gpkg", theme=buildings, keep_trace=True)
    plain = extract(blocks, theme=theme).features
    assert result.traced is not None
    assert result.traced["id"].tolist() == result.features["id"].tolist()
    read = read_result(tmp_path / "map.gpkg", "map_traced").set_index("id").loc[plain["id"]]
    assert shapely.equals(
        shapely.normalize(read.geometry.to_numpy()), shapely.normalize(plain.geometry.to_numpy())
    ).all()
    assert read["area_m2"].to_numpy() == pytest.approx(plain["area_m2"].to_numpy())
    assert read_result(tmp_path / "map.gpkg", "map")["id"].tolist() == result.features["id"].tolist()


@pytest.fixture
def road(tmp_path: Path) -> Path:
    """A bright cross of 6 m wide roads."""
    image = np.full((3, 256, 256), 40, np.uint8)
    image[:, 118:138] = 220
    image[:, :, 118:138] = 220
    return make("utm", tmp_path, image, 0.3)


@pytest.fixture
def roads(tmp_path: Path) -> Path:
    settings = yaml.safe_load(write_theme(tmp_path / "roads.yaml", shape=Lines()).read_text())
    settings["objects"] = {"kind": "regions", "min_area_m2": 50}
    (tmp_path / "roads.yaml").write_text(yaml.safe_dump(settings))
    return tmp_path / "roads.yaml"


def test_lines_come_from_a_run(road: Path, roads: Path, tmp_path: Path):
    first, again = (
        extract(road, tmp_path / "map.gpkg", theme=roads, refiner="none", as_="lines", run=tmp_path / "run")
        for _ in range(2)
    )
    assert len(first.features)
    assert first.features.geometry.geom_equals(again.features.geometry).all()


def test_lines_come_as_a_network(road: Path, roads: Path, tmp_path: Path):
    result = extract(road, tmp_path / "map.gpkg", theme=roads, refiner="none", as_="lines")
    assert result.nodes is not None
    assert set(result.features.geom_type) == {"LineString"}
    assert {"id", "class", "score", "width_m", "length_m", "from_node", "to_node"} <= set(result.features.columns)
    assert set(result.features["from_node"]) | set(result.features["to_node"]) == set(result.nodes["id"])
    assert result.summary.features == len(result.features) >= 4
    assert result.features["width_m"].median() == pytest.approx(6, abs=1)
    assert set(read_result(tmp_path / "map.gpkg", "lines")["id"]) == set(result.features["id"])
    assert set(read_result(tmp_path / "map.gpkg", "nodes")["id"]) == set(result.nodes["id"])


@pytest.mark.parametrize("suffix", [".fgb", ".parquet", ".geojson", ".gpkg"])
def test_lines_have_provenance_and_a_name_in_every_format(suffix: str, road: Path, roads: Path, tmp_path: Path):
    out = tmp_path / f"streets{suffix}"
    result = extract(road, out, theme=roads, refiner="none", as_="lines")
    assert read_provenance(out) == json.loads(json.dumps(result.provenance))
    assert result.provenance["request"]["as_"] == "lines"
    assert len(read_result(out)) == len(result.features)
    if suffix == ".fgb":
        assert [name for name, _ in gpd.list_layers(out)[["name", "geometry_type"]].to_numpy()] == ["streets"]


def test_lines_in_geojson_are_as_the_standard_wants_them(road: Path, roads: Path, tmp_path: Path):
    extract(road, tmp_path / "map.geojson", theme=roads, refiner="none", as_="lines", crs="EPSG:3857")
    text = (tmp_path / "map.geojson").read_text()
    assert "crs" not in json.loads(text)
    assert "hybridseg" in json.loads(text)
    coordinates = re.findall(r'"coordinates": (\[.*?\]) \}', text)
    digits = {len(number) for each in coordinates for number in re.findall(r"\.(\d+)", each)}
    assert max(digits) == 7
    lon, lat = json.loads(coordinates[0])[0]
    assert 14 < lon < 16
    assert 47 < lat < 48


# --- provenance -------------------------------------------------------------------------------------------------------


def test_provenance_is_of_the_request_and_not_of_the_process(
    blocks: Path, theme: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys, "argv", ["notebook", "--token", "secret-of-the-process"])
    left, bottom, right, top = open_scene(blocks).geobox.boundingbox
    half = (left, bottom, (left + right) / 2, top)
    made = extract(
        blocks, theme=theme, extent=half, prompts="box,hint", refiner="sam2-lite", crs="EPSG:4326"
    ).provenance
    assert "secret-of-the-process" not in json.dumps(made)
    request = made["request"]
    assert request["scene"] == str(blocks)
    assert request["bands"] == [1, 2, 3]
    assert request["extent"] == list(half)
    assert request["crs"] == "EPSG:4326"
    assert request["refiners"] == ["threshold"]
    (text,) = request["themes"]
    resolved = Theme.model_validate(yaml.safe_load(text))
    assert resolved.prompts.parts == {"box", "hint"}
    assert resolved.refiner == "sam2-lite"
    assert resolved.objects == load_theme("buildings").objects
    assert made["models"] == {"bright": "b" * 64, "threshold": "0" * 64}
    assert made["source_fingerprint"] == open_scene(blocks).fingerprint
    assert json.loads(json.dumps(made)) == made


def test_credits_name_the_imagery(blocks: Path, theme: Path):
    attribution = "(c) City of Graz, CC-BY-4.0"
    credits = extract(blocks, theme=theme, refiner="none", attribution=attribution).provenance["credits"]
    assert credits == [{"of": "imagery", "attribution": attribution, "licence": ""}]


def test_what_a_search_asked_for_is_told(blocks: Path, theme: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    item = {"type": "Feature", "stac_version": "1.0.0", "id": "a", "assets": {"visual": {"href": str(blocks)}}}
    (tmp_path / "search").write_text(json.dumps({"type": "FeatureCollection", "features": [item]}))
    with serving(tmp_path) as address:
        search = f"{address}/search?collections=naip&bbox=-96,40,-95,41&datetime=2021-01-01/2021-12-31"
        extract(f"{search}&token=secret", tmp_path / "map.gpkg", theme=theme)
    told = pyogrio.read_info(tmp_path / "map.gpkg", layer="map")["layer_metadata"]
    assert read_provenance(tmp_path / "map.gpkg")["request"]["scene"] == search
    assert f"scene: {search}\n" in told["DESCRIPTION"]
    assert "secret" not in json.dumps(told)


def test_a_run_is_repeated_from_its_provenance(blocks: Path, theme: Path, tmp_path: Path):
    left, bottom, right, top = open_scene(blocks).geobox.boundingbox
    part = f"{left},{bottom},{right - 40},{top}"
    first = extract(blocks, tmp_path / "map.gpkg", theme=theme, extent=part, prompts="box", bands="3,2,1")
    request = read_provenance(tmp_path / "map.gpkg")["request"]
    (tmp_path / "again.yaml").write_text(request.pop("themes")[0])
    request.pop("refiners")
    again = extract(theme=tmp_path / "again.yaml", **request)
    assert 0 < len(first.features) < len(BLOCKS)
    same(again.features, first.features)
    assert again.provenance["request"] == first.provenance["request"]


def test_prompts_given_are_named_with_their_hash(blocks: Path, theme: Path, tmp_path: Path):
    extract(blocks, theme=theme, run=tmp_path)
    given = extract(blocks, theme=theme, from_prompts=tmp_path / "prompts.parquet").provenance["request"][
        "from_prompts"
    ]
    assert given["name"] == str(tmp_path / "prompts.parquet")
    assert len(given["sha256"]) == 64
    rows = gpd.read_parquet(tmp_path / "prompts.parquet")
    rows.iloc[1:].to_parquet(tmp_path / "prompts.parquet")
    other = extract(blocks, theme=theme, from_prompts=tmp_path / "prompts.parquet").provenance["request"][
        "from_prompts"
    ]
    assert other["sha256"] != given["sha256"]
    drawn = extract(blocks, theme=theme, from_prompts=rows).provenance["request"]["from_prompts"]
    assert drawn["name"] == "a GeoDataFrame"


# --- scenes of every kind ---------------------------------------------------------------------------------------------


def test_a_scene_may_be_open_already(blocks: Path, theme: Path):
    wanted = extract(blocks, theme=theme).features
    with rasterio.open(blocks) as dataset:
        same(extract(dataset, theme=theme).features, wanted)
    same(extract(open_scene(blocks), theme=theme).features, wanted)
    same(extract(str(blocks), theme=theme).features, wanted)


def test_a_scene_may_be_an_array_and_its_grid(blocks: Path, theme: Path):
    wanted = extract(blocks, theme=theme).features
    with rasterio.open(blocks) as file:
        pixels, grid = file.read(), GeoBox.from_rio(file)
    for array in (pixels, np.moveaxis(pixels, 0, -1)):
        same(extract(open_scene(array, geobox=grid), theme=theme).features, wanted)


def test_a_scene_may_be_a_dataarray(blocks: Path, theme: Path):
    xarray = pytest.importorskip("xarray")
    with rasterio.open(blocks) as file:
        left, top, pixel = file.transform.c, file.transform.f, file.transform.a
        height, width = file.shape
        array = xarray.DataArray(
            file.read(),
            dims=("band", "y", "x"),
            coords={"y": top - pixel * (np.arange(height) + 0.5), "x": left + pixel * (np.arange(width) + 0.5)},
            attrs={"crs": "EPSG:32633"},
        )
    found, wanted = extract(array, theme=theme).features, extract(blocks, theme=theme).features
    assert found["id"].tolist() == wanted["id"].tolist()
    assert shapely.equals_exact(found.geometry.to_numpy(), wanted.geometry.to_numpy(), 1e-6).all()


@pytest.mark.parametrize(
    "scene", [np.zeros((3, 64, 64), np.uint8), 5, None, b"scene.tif"], ids=lambda s: type(s).__name__
)
def test_what_is_no_scene_is_refused_in_one_line(scene: Any, theme: Path, tmp_path: Path):
    refuses(tmp_path, "geobox|no scene", scene, tmp_path / "map.gpkg", theme=theme, error=HybridsegError)


# --- starting from what was kept --------------------------------------------------------------------------------------


@pytest.fixture
def kept(blocks: Path, theme: Path, tmp_path: Path) -> tuple[Path, gpd.GeoDataFrame]:
    """The work of a run, and its features."""
    features = extract(blocks, theme=theme, run=tmp_path / "work").features
    left = {path.name for path in (tmp_path / "work").iterdir()}
    assert left == {"heatmap.tif", "heatmap.qmd", "prompts.parquet", "refined.parquet", "parts"}
    assert set(features["origin"]) == {"refined"}
    Watched.encoded = 0
    return tmp_path / "work", features


def test_prompts_that_were_kept_make_the_same_map(kept: tuple[Path, gpd.GeoDataFrame], blocks: Path, theme: Path):
    work, features = kept
    same(extract(blocks, theme=theme, from_prompts=work / "prompts.parquet").features, features)
    assert Watched.encoded > 0


def test_the_same_command_does_nothing_again(kept: tuple[Path, gpd.GeoDataFrame], blocks: Path, theme: Path):
    run, features = kept
    again = extract(blocks, theme=theme, run=run)
    same(again.features, features)
    assert Watched.encoded == 0
    assert again.summary.windows_done == 0
    assert again.summary.windows_reused == again.summary.windows_classified + again.summary.windows_refined > 1
    assert again.summary.refined == len(BLOCKS)


def test_a_stricter_gate_needs_the_masks_alone(
    kept: tuple[Path, gpd.GeoDataFrame], blocks: Path, theme: Path, tmp_path: Path
):
    run, features = kept
    strict = write_theme(tmp_path / "strict.yaml", gate=Gate(iou_pred=0.95))
    again = extract(blocks, theme=strict, run=run)
    assert Watched.encoded == again.summary.windows_done == 0
    assert set(again.features["origin"]) == {"coarse"}
    assert again.features["id"].tolist() == features["id"].tolist()
    assert (again.features.area - features.area).abs().max() > 1
    same(again.features, extract(blocks, theme=strict).features)


def test_another_threshold_needs_the_heatmap_and_the_windows_that_it_changes(
    kept: tuple[Path, gpd.GeoDataFrame], blocks: Path, theme: Path, tmp_path: Path
):
    run, features = kept
    larger = write_theme(
        tmp_path / "larger.yaml", objects=load_theme(theme).objects.model_copy(update={"min_area_m2": 90.0})
    )
    again = extract(blocks, theme=larger, run=run)
    assert 0 < len(again.features) < len(features)
    assert Watched.encoded == again.summary.windows_done < again.summary.windows_refined
    same(again.features, extract(blocks, theme=larger).features)


def test_windows_that_failed_are_tried_again_when_asked(
    blocks: Path, theme: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    left = open_scene(blocks).geobox.boundingbox.left

    def encode(self: Watched, chip: Chip) -> np.ndarray:
        if chip.geobox.boundingbox.left < left + 2:
            raise RuntimeError("a damaged block")
        return Threshold.encode(self, chip)

    with monkeypatch.context() as patched:
        patched.setattr(Watched, "encode", encode)
        first = extract(blocks, theme=theme, run=tmp_path / "run").summary
    again, mended = (extract(blocks, theme=theme, run=tmp_path / "run", retry_failed=retry) for retry in (False, True))
    assert first.failures == again.summary.failures != ()
    assert again.summary.windows_done == 0
    assert mended.summary.failures == ()
    assert mended.summary.windows_done == len(first.failures)
    same(mended.features, extract(blocks, theme=theme).features)


def test_a_run_that_failed_from_the_start_says_how_to_try_again(blocks: Path, theme: Path, tmp_path: Path):
    Watched.broken = True
    for said in ("nothing is written$", "--retry-failed"):
        with pytest.raises(RunError, match=said):
            extract(blocks, theme=theme, run=tmp_path / "run")
    Watched.broken = False
    assert len(extract(blocks, theme=theme, run=tmp_path / "run", retry_failed=True).features) == len(BLOCKS)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"retry_failed": True}, "--retry-failed goes with --run"),
        ({"workers": 2}, "2 workers came with the engine serial"),
        ({"engine": "threads", "workers": 0}, "give 1 or more with --engine threads"),
        ({"engine": "dask"}, "no engine 'dask'; give one of serial, threads, ray"),
    ],
)
def test_engines_and_runs_that_make_no_sense_are_refused(
    given: dict[str, Any], said: str, blocks: Path, theme: Path, tmp_path: Path
):
    refuses(tmp_path, said, blocks, tmp_path / "map.gpkg", theme=theme, error=HybridsegError, **given)


def test_threads_make_the_same_map(blocks: Path, theme: Path):
    one, two = (extract(blocks, theme=theme, engine=engine) for engine in ("serial", "threads"))
    same(one.features, two.features)
    assert one.summary.windows_done == two.summary.windows_done


def test_an_extent_of_prompts_is_that_of_the_scene(kept: tuple[Path, gpd.GeoDataFrame], blocks: Path, theme: Path):
    work, _ = kept
    left, bottom, right, top = open_scene(blocks).geobox.boundingbox
    half = (left, bottom, (left + right) / 2, top)
    wanted = extract(blocks, theme=theme, extent=half).features
    assert 0 < len(wanted) < len(BLOCKS)
    same(extract(blocks, theme=theme, extent=half, run=work).features, wanted)
    same(extract(blocks, theme=theme, extent=half, from_prompts=work / "prompts.parquet").features, wanted)


def test_prompts_may_be_drawn_by_hand(blocks: Path, theme: Path, tmp_path: Path):
    drawn = extract(blocks, theme=theme).features[["geometry"]].iloc[:3]
    for source in (drawn, drawn.to_crs(4326)):
        features = extract(blocks, theme=theme, from_prompts=source).features
        assert len(features) == 3
        assert set(features["score"]) == {1.0}
        assert set(features["origin"]) == {"refined"}
    drawn.to_file(tmp_path / "drawn.gpkg")
    assert len(extract(blocks, theme=theme, from_prompts=str(tmp_path / "drawn.gpkg")).features) == 3


def test_what_is_kept_is_whole(kept: tuple[Path, gpd.GeoDataFrame], blocks: Path):
    work, features = kept
    prompts, refined = (
        Prompts(gpd.read_parquet(work / "prompts.parquet")),
        Refined.read(work / "refined.parquet", "EPSG:32633"),
    )
    assert prompts.rows["id"].tolist() == refined.rows["id"].tolist()
    assert set(features["id"]) == set(prompts.rows["id"])
    assert refined.masked.all()
    with rasterio.open(work / "heatmap.tif") as heatmap, rasterio.open(blocks) as scene:
        assert heatmap.descriptions == ("building:extent", "building:interior")
        assert heatmap.bounds.left <= scene.bounds.left < scene.bounds.right <= heatmap.bounds.right


def test_several_themes_with_one_classifier_share_a_heatmap(blocks: Path, theme: Path, tmp_path: Path):
    other = write_theme(tmp_path / "other.yaml", gate=Gate(iou_pred=0.95))
    result = extract(blocks, theme=f"{theme},{other}", run=tmp_path / "work")
    assert result.summary.windows_classified == extract(blocks, theme=theme).summary.windows_classified
    assert result.summary.theme == "mine,other"
    assert len(result.features) == 2 * len(BLOCKS)
    assert {path.name for path in (tmp_path / "work").glob("*.tif")} == {"heatmap-mine-other.tif"}


def test_themes_of_one_class_cannot_share_prompts(blocks: Path, theme: Path, tmp_path: Path):
    extract(blocks, theme=theme, run=tmp_path / "work")
    other = write_theme(tmp_path / "other.yaml", gate=Gate(iou_pred=0.95))
    prompts = tmp_path / "work" / "prompts.parquet"
    Watched.encoded = 0
    refuses(tmp_path, "one by one", blocks, theme=f"{theme},{other}", from_prompts=prompts, error=HybridsegError)


def test_no_objects_are_a_result(theme: Path, tmp_path: Path):
    dark = make("utm", tmp_path, np.full((3, 128, 128), 40, np.uint8), 0.3)
    work = tmp_path / "work"
    result = extract(dark, tmp_path / "map.gpkg", theme=theme, run=work)
    assert len(result.features) == len(read_result(tmp_path / "map.gpkg")) == 0
    assert list(result.features.columns) == list(FEATURE_COLUMNS)
    assert extract(dark, theme=theme, from_prompts=work / "prompts.parquet").features.empty


def test_without_a_refiner_outlines_are_coarse(blocks: Path, theme: Path):
    result = extract(blocks, theme=theme, refiner="none")
    assert set(result.features["origin"]) == {"coarse"}
    assert result.summary.refiner == "none"
    assert result.provenance["models"] == {"bright": "b" * 64}
    assert Watched.encoded == 0


def test_what_computed_the_networks_is_told(blocks: Path, theme: Path, monkeypatch: pytest.MonkeyPatch):
    made = extract(blocks, theme=theme, runtime="torch")
    assert made.provenance["request"]["runtime"] == "torch"
    assert made.summary.runtime == "none"  # doubles compute nothing
    monkeypatch.setattr(Bright, "runners", (_Ran("classifier", "openvino", ""),))
    monkeypatch.setattr(Threshold, "runners", (_Ran("decoder", "torch", "cannot be converted"), _Ran("encoder")))
    monkeypatch.setattr(Threshold, "take_notes", lambda _: ["masks agree"])
    summary = extract(blocks, theme=theme).summary
    assert ("computed by", "openvino; torch, since decoder cannot be converted") in summary.lines()
    assert ("note", "masks agree") in summary.lines()
    with pytest.raises(HybridsegError, match="no runtime 'onnx'; give auto, torch or openvino"):
        extract(blocks, theme=theme, runtime="onnx")


class _Ran:
    """A runner that was called, or one that was not."""

    def __init__(self, name: str, *report: str) -> None:
        self.name, self.report = name, report or None

    def release(self) -> None:
        """It holds nothing."""


def test_a_collar_is_said_in_the_summary(theme: Path, tmp_path: Path):
    pixels = blocks_image().copy()
    pixels[:, :12] = pixels[:, :, :12] = 255
    result = extract(make("utm", tmp_path, pixels, 0.3), theme=theme)
    assert any("has the value 255" in note for note in result.summary.notes), result.summary.notes
