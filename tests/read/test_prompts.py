from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from hybridseg.errors import PromptsError
from hybridseg.read.opening import open_scene
from hybridseg.read.prompts import read_prompts
from hybridseg.read.scene import Scene
from hybridseg.read.tiles import tile
from hybridseg.rowfile import PackedRows
from hybridseg.run.store import key_of
from hybridseg.tables import PROMPT_COLUMNS, Prompts
from hybridseg.types import Window
from hybridseg.what.instances import Instances
from hybridseg.what.lattice import Block, Lattice
from tests.what.test_instances import depth_of, two_touching

POLICY = Instances(max_object_m=15)
CRS = "EPSG:32645"
AFFINE = Affine(0.5, 0, 500_000, 0, -0.5, 3_000_000)
LATTICE = Lattice(AFFINE, CRS, (1_000_000, -6_000_000), 0.5)


@pytest.fixture(scope="module")
def scene() -> Scene:
    """Grey ground of 80 by 80 m."""
    return open_scene(np.full((3, 160, 160), 90, np.uint8), geobox=GeoBox((160, 160), AFFINE, CRS))


def scattered(side: int = 160, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    labels = np.zeros((side, side), np.int32)
    for k in range(1, 40):
        h, w = rng.integers(6, 24, 2)
        y, x = rng.integers(0, side - h), rng.integers(0, side - w)
        if not labels[max(0, y - 1) : y + h + 1, max(0, x - 1) : x + w + 1].any():
            labels[y : y + h, x : x + w] = k
    return labels


def find_in_blocks(labels: np.ndarray, core_px: int, offset_px: int) -> gpd.GeoDataFrame:
    extent, interior = (labels > 0).astype(np.float32), depth_of(labels)
    whole = Window(0, 0, labels.shape[1], labels.shape[0])
    parts = []
    for core in tile(labels.shape, core_px, offset_px):
        window = core.pad(POLICY.halo_px(LATTICE)).clip(whole)
        at = window.slices(whole)
        block = Block(extent[at], interior[at], np.ones(extent[at].shape, bool), window, core)
        parts.append(PackedRows.of(POLICY.find(block, LATTICE, "building")))
    return POLICY.gather(parts, LATTICE, "building").rows


@settings(max_examples=12, deadline=None)
@given(core=st.integers(33, 170), offset=st.integers(0, 100))
def test_every_object_is_found_once_whatever_the_blocks(core: int, offset: int):
    labels = scattered()
    whole, parts = find_in_blocks(labels, 160, 0), find_in_blocks(labels, core, offset)
    assert len(whole) > 10
    assert parts["id"].tolist() == whole["id"].tolist()
    assert shapely.equals(parts.geometry.to_numpy(), whole.geometry.to_numpy()).all()


def test_a_prompt_knows_its_place_and_its_neighbour():
    prompts = find_in_blocks(two_touching(), 64, 0)
    assert list(prompts.columns) == list(PROMPT_COLUMNS)
    assert len(prompts) == 2
    first, second = prompts.itertuples()
    assert first.support.contains(shapely.Point(first.peak_x, first.peak_y))
    assert first.negative.equals(second.positive)
    assert first.support.area == pytest.approx(20 * 20 * 0.25, rel=0.1)
    assert first.id != second.id


def test_small_and_doubtful_objects_are_left_out():
    labels = np.zeros((60, 60), np.int32)
    labels[10:13, 10:13] = 1  # 2.25 m2
    labels[30:50, 30:50] = 2
    assert len(find_in_blocks(labels, 60, 0)) == 1


def test_write_then_read_is_the_same(scene: Scene, tmp_path: Path):
    prompts = Prompts(find_in_blocks(scattered(), 80, 0))
    prompts.write(tmp_path / "p.parquet")
    given = read_prompts(tmp_path / "p.parquet", ["building"], scene)
    back, scored = given.prompts, given.scored
    assert scored
    assert key_of("rows", back) == key_of("rows", prompts)


def test_no_prompts_is_a_file_too(scene: Scene, tmp_path: Path):
    Prompts.from_records([], CRS).write(tmp_path / "p.parquet")
    assert len(read_prompts(tmp_path / "p.parquet", ["building"], scene).prompts) == 0


@pytest.mark.parametrize("name", ["p.parquet", "p.gpkg"])
def test_prompts_brought_to_another_crs_have_their_peaks_inside(name: str, scene: Scene, tmp_path: Path):
    prompts = Prompts(find_in_blocks(scattered(), 80, 0))
    abroad = prompts.rows.to_crs(4326)  # as a GIS does: numbers in columns stay as they are
    if name == "p.parquet":
        abroad.to_parquet(tmp_path / name)
    else:
        abroad.drop(columns=["positive", "negative"]).to_file(tmp_path / name)
    rows = read_prompts(tmp_path / name, ["building"], scene).prompts.rows
    assert rows["id"].tolist() == prompts.rows["id"].tolist()
    assert rows["support"].contains(gpd.GeoSeries.from_xy(rows["peak_x"], rows["peak_y"], crs=CRS)).all()


def drawn(**columns: object) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(
        {k: [v] for k, v in columns.items()}, geometry=[shapely.box(500_010, 2_999_950, 500_030, 2_999_980)], crs=CRS
    )


def test_polygons_drawn_by_hand_are_prompts(scene: Scene, tmp_path: Path):
    drawn().to_crs(4326).to_file(tmp_path / "mine.gpkg")
    given = read_prompts(tmp_path / "mine.gpkg", ["building"], scene)
    prompts, scored = given.prompts, given.scored
    assert not scored
    rows = prompts.rows
    assert rows["class"].tolist() == ["building"]
    assert rows["score"].tolist() == [1.0]
    assert rows.geometry[0].area == pytest.approx(600, rel=1e-3)
    assert rows.geometry[0].contains(rows["positive"][0])


def test_a_calibrated_map_gives_its_raw_scores(scene: Scene):
    given = read_prompts(drawn(score=0.9, score_raw=0.6), ["building"], scene)
    prompts, scored = given.prompts, given.scored
    assert scored
    assert prompts.rows["score"].tolist() == [0.6]


def moved(layer: gpd.GeoDataFrame, metres: float) -> gpd.GeoDataFrame:
    return layer.set_geometry(layer.translate(metres))


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (drawn(**{"class": "house"}), r"classes that no theme looks for: house \(1\); the themes look for building"),
        (drawn(score=5.0), "score 5.0"),
        (drawn(score=np.nan), "score nan"),
        (drawn(score="high"), "score holds text"),
        (moved(drawn(), 100_000), "1 of 1 prompts lie beside the scene"),
        (drawn().set_geometry(drawn().scale(1000, 1000)), "2 times as long as the scene"),
        (drawn().set_geometry([shapely.Polygon()]), "outline"),
        (drawn().set_geometry([shapely.box(np.nan, 0, 1, 1)]), "outline"),
    ],
    ids=["class", "score", "no score", "text", "beside", "vast", "empty", "nan"],
)
def test_prompts_that_cannot_be_meant_are_refused(layer: gpd.GeoDataFrame, said: str, scene: Scene):
    with pytest.raises(PromptsError, match=said) as caught:
        read_prompts(layer, ["building"], scene)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_prompts_is_said_in_one_line(scene: Scene, tmp_path: Path):
    (tmp_path / "text.gpkg").write_text("no")
    points = gpd.GeoDataFrame(geometry=[shapely.Point(0, 0)], crs=CRS)
    points.to_file(tmp_path / "points.gpkg")
    for name, word in (("text.gpkg", "cannot read"), ("gone.parquet", "cannot read"), ("points.gpkg", "Point")):
        with pytest.raises(PromptsError, match=word) as caught:
            read_prompts(tmp_path / name, ["building"], scene)
        assert "\n" not in str(caught.value)
