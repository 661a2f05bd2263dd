"""Areas of interest: what touches them is the same as without them, ground away from them is not looked at."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely

from hybridseg import HybridsegError, Models, extract, load_theme, open_scene
from hybridseg.errors import EmptySource, LayerError, OutputError
from hybridseg.read.part import Area, open_part
from hybridseg.run.store import Memory
from hybridseg.run.survey import Survey
from hybridseg.shape import AsTraced
from hybridseg.what import Regions
from hybridseg.write.result import read_provenance
from tests.doubles import Bright, Threshold, survey
from townscape import render_town


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scene, _ = render_town(640, 0.3, seed=3).write(tmp_path_factory.mktemp("town"))
    return scene


@pytest.fixture
def _doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Models, "open", lambda *_: Models(Bright(), Threshold()))


def strip(scene: object, width: float = 0.15) -> shapely.Polygon:
    """A strip from the scene's south-west to its north-east corner, so wide a share of its side."""
    left, bottom, right, top = scene.geobox.boundingbox.bbox  # type: ignore[attr-defined]
    d = width * (right - left)
    return shapely.Polygon(
        [(left, bottom), (left + d, bottom), (right, top - d), (right, top), (right - d, top), (left, bottom + d)]
    )


def whole_and_part(run: Survey, ground: shapely.Geometry) -> tuple[gpd.GeoDataFrame, gpd.GeoDataFrame]:
    """Features of the whole scene that touch the ground, and those of the area."""
    area = Area.read(gpd.GeoDataFrame(geometry=[ground], crs=run.scene.crs.to_wkt()), run.scene)
    whole, part = run.run().features, replace(run, ground=area).run().features
    return whole[whole.intersects(area.ground)].reset_index(drop=True), part


@pytest.mark.parametrize(("width", "core_px"), [(0.03, 1024), (0.15, 128), (0.5, 1024)])
def test_objects_that_touch_an_area_come_out_as_without_it(town: Path, width: float, core_px: int):
    run = survey(town, core_px=core_px)
    expected, found = whole_and_part(run, strip(run.scene, width))
    assert len(expected) > 5
    assert expected["id"].tolist() == found["id"].tolist()
    ious = [a.intersection(b).area / a.union(b).area for a, b in zip(expected.geometry, found.geometry, strict=True)]
    assert min(ious) > 0.98
    ground = strip(run.scene, width)
    assert not found.within(ground).all()  # whole, across the border


def test_ground_away_from_an_area_is_not_looked_at(town: Path):
    run = survey(town, core_px=96)
    small = run.theme.model_copy(update={"objects": run.theme.objects.model_copy(update={"max_object_m": 8.0})})
    run = Survey(run.scene, small, run.models, core_px=96)
    area = Area.read(gpd.GeoDataFrame(geometry=[strip(run.scene, 0.02)], crs=run.scene.crs.to_wkt()), run.scene)
    box = replace(run, ground=run.scene.geobox.boundingbox.bbox).steps()
    part = replace(run, ground=area).steps()
    assert part.heatmap.sweep.windows < 0.8 * box.heatmap.sweep.windows
    assert len(part.load_prompts()) < 0.8 * len(box.load_prompts())


def test_a_heatmap_is_known_by_the_ground_that_was_looked_at(town: Path):
    run = replace(survey(town, core_px=96), theme=load_theme("buildings").model_copy(update={"max_gsd_m": 1.0}))
    area = Area.read(gpd.GeoDataFrame(geometry=[strip(run.scene, 0.02)], crs=run.scene.crs.to_wkt()), run.scene)
    near = run.theme.model_copy(
        update={"objects": run.theme.objects.model_copy(update={"max_object_m": 8.0, "merge": None})}
    )
    small = replace(run, theme=near, ground=area, store=Memory()).heatmap()
    large = replace(run, theme=near, ground=area, reach_m=40.0, store=Memory()).heatmap()
    assert small.sweep.windows < large.sweep.windows
    assert small.fingerprint != large.fingerprint


@pytest.mark.usefixtures("_doubles")
@pytest.mark.parametrize("theme", ["buildings", "water"])
def test_the_trace_is_kept_of_whatever_an_area_gives(town: Path, tmp_path: Path, theme: str):
    run = survey(town)
    path = tmp_path / "area.gpkg"
    gpd.GeoDataFrame(geometry=[strip(run.scene, 0.03)], crs=run.scene.crs.to_wkt()).to_file(path)
    label = {"water": "building"}.get(theme, "building")
    mine = tmp_path / "mine.yaml"
    mine.write_text(load_theme(theme).model_copy(update={"label": label, "by_bands": ()}).to_yaml())
    result = extract(town, theme=mine, aoi=path, keep_trace=True)
    assert len(result.features) > 0
    assert result.traced["id"].isin(result.features["id"]).all()


def test_regions_are_cut_at_an_area(town: Path):
    regions = Regions(min_area_m2=5.0, piece_m=30.0, overlap_m=5.0)
    theme = load_theme("buildings").model_copy(update={"shape": AsTraced(), "objects": regions})
    run = survey(town, theme, core_px=128)
    ground = strip(run.scene, 0.3)
    touching, found = whole_and_part(run, ground)
    assert len(found) == len(touching) > 3
    assert found.within(ground.buffer(1e-6)).all()
    whole = touching.intersection(ground)
    assert shapely.union_all(found.geometry.to_numpy()).symmetric_difference(shapely.union_all(whole)).area < 0.02 * (
        whole.area.sum()
    )


@pytest.mark.usefixtures("_doubles")
def test_an_area_may_be_a_file_in_any_crs_or_a_geodataframe(town: Path, tmp_path: Path):
    run = survey(town)
    parts = [strip(run.scene, 0.1), shapely.box(*run.scene.geobox.boundingbox.bbox).centroid.buffer(20)]
    layer = gpd.GeoDataFrame({"name": ["a", "b"]}, geometry=parts, crs=run.scene.crs.to_wkt())
    layer.to_crs(4326).to_file(tmp_path / "aoi.geojson")
    named = extract(str(town), tmp_path / "out.gpkg", aoi=tmp_path / "aoi.geojson")
    given = extract(str(town), aoi=layer)
    assert len(named.features) > 5
    assert named.features["id"].tolist() == given.features["id"].tolist()
    made = read_provenance(tmp_path / "out.gpkg")
    assert made is not None
    assert made["request"]["aoi"]["name"] == str(tmp_path / "aoi.geojson")
    assert len(made["request"]["aoi"]["sha256"]) == 64
    ground = shapely.union_all(layer.geometry.to_numpy())
    assert (named.features.distance(ground) < 0.01).all()
    with pytest.raises(OutputError, match="one of the inputs"):
        extract(str(town), tmp_path / "aoi.geojson", aoi=tmp_path / "aoi.geojson")


@pytest.mark.usefixtures("_doubles")
def test_areas_that_cannot_be_used_are_one_line(town: Path, tmp_path: Path):
    scene = survey(town).scene
    crs = scene.crs.to_wkt()
    x, y = np.array(strip(scene).centroid.coords[0])
    away = gpd.GeoDataFrame(geometry=[shapely.box(x + 1e4, y, x + 2e4, y + 9)], crs=crs)
    with pytest.raises(EmptySource, match=r"no polygon of the layer lies on .*they span"):
        extract(str(town), aoi=away)
    with pytest.raises(LayerError, match="give a layer of polygons"):
        extract(str(town), aoi=gpd.GeoDataFrame(geometry=[shapely.Point(x, y)], crs=crs))
    with pytest.raises(LayerError, match="does not exist"):
        extract(str(town), aoi=tmp_path / "none.gpkg")
    with pytest.raises(HybridsegError, match="--extent and --aoi came together"):
        extract(str(town), aoi=away, extent=(0, 0, 1, 1))


@pytest.mark.parametrize("gsd", [1e-9, 0.001, 1e9, float("nan")])
@pytest.mark.parametrize("part", ["extent", "aoi", "all"])
def test_pixels_that_nobody_can_mean_are_one_line(town: Path, gsd: float, part: str):
    left, bottom, right, top = open_scene(town).geobox.boundingbox.bbox
    extent = (left, bottom, (left + right) / 2, (bottom + top) / 2)
    layer = gpd.GeoDataFrame(geometry=[shapely.box(*extent)], crs=open_scene(town).crs.to_wkt())
    asked = {"extent": {"extent": extent}, "aoi": {"aoi": layer}, "all": {}}[part]
    with pytest.raises(HybridsegError, match=r"--gsd is .*, but .* has pixels of 0\.3 m; give 0\.03 to 100000 metres"):
        open_part(town, gsd_m=gsd, **asked)  # type: ignore[arg-type]


@pytest.mark.usefixtures("_doubles")
def test_a_value_of_no_data_is_taken_by_the_verb(blocks: Path, tmp_path: Path):
    whole, declared = extract(str(blocks)), extract(str(blocks), tmp_path / "a.gpkg", nodata="220")
    assert len(whole.features) == 5
    assert not len(declared.features)  # the blocks are of that value
    made = read_provenance(tmp_path / "a.gpkg")
    assert made is not None
    assert made["request"]["nodata"] == "220"
    for wrong in ("white", [255]):
        with pytest.raises(HybridsegError, match="give the value of pixels without data"):
            extract(str(blocks), nodata=wrong)  # type: ignore[arg-type]


@pytest.mark.usefixtures("_doubles")
def test_imagery_is_credited(blocks: Path, tmp_path: Path):
    assert extract(str(blocks)).provenance["credits"] == []
    asked = extract(str(blocks), tmp_path / "a.gpkg", attribution="City of Graz, CC-BY-4.0", run=tmp_path / "w")
    assert asked.provenance["credits"] == [{"of": "imagery", "attribution": "City of Graz, CC-BY-4.0", "licence": ""}]
    with rasterio.open(tmp_path / "w" / "heatmap.tif") as file:
        made = json.loads(file.tags()["hybridseg"])
        assert set(file.scales) == {1 / 254}
    assert made["models"] == {"bright": "b" * 64}
    assert made["source_fingerprint"] == asked.provenance["source_fingerprint"]
    with rasterio.open(blocks, "r+") as file:
        file.update_tags(TIFFTAG_COPYRIGHT="(c) the town")
    assert extract([str(blocks)]).provenance["credits"][0]["attribution"] == "(c) the town"


@pytest.mark.usefixtures("_doubles")
def test_overture_and_stac_are_asked_for(blocks: Path, tmp_path: Path):
    made = extract(str(blocks), tmp_path / "a.parquet", schema="overture", stac=True)
    assert set(gpd.read_parquet(tmp_path / "a.parquet")["id"]) == set(made.features["id"])
    assert (tmp_path / "a.stac.json").is_file()
    with pytest.raises(OutputError, match="overture is GeoParquet"):
        extract(str(blocks), tmp_path / "a.gpkg", schema="overture")
    with pytest.raises(OutputError, match="is for buildings, not for lines"):
        extract(str(blocks), tmp_path / "b.parquet", schema="overture", as_="lines")
    with pytest.raises(OutputError, match="stands beside a file"):
        extract(str(blocks), stac=True)
