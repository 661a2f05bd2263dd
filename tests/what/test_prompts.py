from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridseg.errors import PromptsError
from hybridseg.read.tiles import tile
from hybridseg.theme import InstancePolicy
from hybridseg.types import PROMPT_COLUMNS, Window
from hybridseg.what.prompts import FindInstances, Lattice, as_prompts, join_prompts, read_prompts, write_prompts
from tests.what.test_instances import depth_of, two_touching

POLICY = InstancePolicy(max_object_m=15)
CRS = "EPSG:32645"
FIND = FindInstances(
    "building", POLICY, Lattice(Affine(0.5, 0, 500_000, 0, -0.5, 3_000_000), CRS, (1_000_000, -6_000_000), 0.5)
)


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
        block = core.pad(FIND.halo_px).clip(whole)
        at = block.slices(whole)
        parts.append(FIND(extent[at], interior[at], block, core))
    return join_prompts(parts, CRS)


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


def test_write_then_read_is_the_same(tmp_path: Path):
    prompts = find_in_blocks(scattered(), 80, 0)
    write_prompts(prompts, tmp_path / "p.parquet")
    back = read_prompts(tmp_path / "p.parquet", "building", CRS)
    assert back["id"].tolist() == prompts["id"].tolist()
    for column in ("support", "positive", "negative"):
        assert shapely.equals(back[column].to_numpy(), prompts[column].to_numpy()).all()


def test_no_prompts_is_a_file_too(tmp_path: Path):
    write_prompts(as_prompts([], CRS), tmp_path / "p.parquet")
    assert len(read_prompts(tmp_path / "p.parquet", "building", CRS)) == 0


def test_polygons_drawn_by_hand_are_prompts(tmp_path: Path):
    drawn = gpd.GeoDataFrame(geometry=[shapely.box(500_010, 2_999_950, 500_030, 2_999_980)], crs=CRS)
    drawn.to_crs(4326).to_file(tmp_path / "mine.gpkg")
    prompts = read_prompts(tmp_path / "mine.gpkg", "building", CRS)
    assert prompts["class"].tolist() == ["building"]
    assert prompts["score"].tolist() == [1.0]
    assert prompts.geometry[0].area == pytest.approx(600, rel=1e-3)
    assert prompts.geometry[0].contains(prompts["positive"][0])


def test_what_cannot_be_prompts_is_said_in_one_line(tmp_path: Path):
    (tmp_path / "text.gpkg").write_text("no")
    points = gpd.GeoDataFrame(geometry=[shapely.Point(0, 0)], crs=CRS)
    points.to_file(tmp_path / "points.gpkg")
    for name, word in (("text.gpkg", "cannot read"), ("gone.parquet", "cannot read"), ("points.gpkg", "Point")):
        with pytest.raises(PromptsError, match=word) as caught:
            read_prompts(tmp_path / name, "building", CRS)
        assert "\n" not in str(caught.value)
