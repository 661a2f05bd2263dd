from __future__ import annotations

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage as ndi

from hybridseg.read.tiles import tile
from hybridseg.rowfile import PackedRows
from hybridseg.tables import PROMPT_COLUMNS
from hybridseg.types import Window
from hybridseg.what.lattice import Block, Lattice
from hybridseg.what.regions import Regions

CRS = "EPSG:32645"
LATTICE = Lattice(Affine(1, 0, 500_000, 0, -1, 3_000_000), CRS, (500_000, -3_000_000), 1.0)
POLICY = Regions(smooth_m=1, min_area_m2=30, min_hole_m2=20, piece_m=50, overlap_m=10)


def blobs(side: int = 130) -> np.ndarray:
    noise = ndi.gaussian_filter(np.random.default_rng(3).normal(size=(side, side)), 5)
    return (1 / (1 + np.exp(-60 * noise))).astype(np.float32)


def find(extent: np.ndarray, core_px: int = 500, offset_px: int = 0, policy: Regions = POLICY) -> gpd.GeoDataFrame:
    whole = Window(0, 0, extent.shape[1], extent.shape[0])
    parts = []
    for core in tile(extent.shape, core_px, offset_px):
        window = core.pad(policy.halo_px(LATTICE)).clip(whole)
        at = window.slices(whole)
        block = Block(extent[at], extent[at], np.ones(extent[at].shape, bool), window, core)
        parts.append(PackedRows.of(policy.find(block, LATTICE, "water")))
    return policy.gather(parts, LATTICE, "water").rows


@settings(max_examples=15, deadline=None)
@given(core=st.integers(20, 140), offset=st.integers(0, 60), steps=st.sampled_from([1, 5, 254, 2**24]))
def test_regions_do_not_depend_on_the_blocks(core: int, offset: int, steps: int):
    # few steps make plateaus, on which many pixels are the highest
    extent = np.round(blobs() * steps) / steps
    whole, blocks = find(extent), find(extent, core, offset)
    assert whole["id"].nunique() > 2
    assert blocks["id"].tolist() == whole["id"].tolist()
    assert shapely.equals(blocks.geometry.to_numpy(), whole.geometry.to_numpy()).all()


def test_pieces_overlap_and_make_up_their_region():
    prompts = find(blobs())
    assert list(prompts.columns) == list(PROMPT_COLUMNS)
    surface = np.round(ndi.gaussian_filter(blobs(), 1) * 255) >= 127.5
    labels, _ = ndi.label(surface)
    areas = sorted(area for area in np.bincount(labels.ravel())[1:] if area >= 30)
    unions = prompts.dissolve("id").geometry
    assert all(unions.geom_type == "Polygon")
    assert sorted(unions.area) == pytest.approx(areas, abs=21)  # small holes are filled
    assert prompts.geometry.area.sum() > unions.area.sum()
    assert (prompts.bounds["maxx"] - prompts.bounds["minx"]).max() <= 60


def test_points_lie_inside_their_piece_and_outside_the_region():
    prompts = find(blobs())
    for prompt in prompts.itertuples():
        assert 1 <= len(prompt.positive.geoms) <= 3
        assert prompt.support.buffer(1).contains(prompt.positive)
    together = prompts.dissolve().geometry.iloc[0].buffer(-0.5)
    assert not any(together.intersects(negative) for negative in prompts["negative"])
    assert sum(len(n.geoms) for n in prompts["negative"]) > len(prompts)


def test_small_faint_and_absent_regions():
    extent = np.zeros((60, 60), np.float32)
    extent[5:9, 5:9] = 1  # 16 m2
    assert find(extent).empty
    extent[20:40, 20:40] = 0.6
    assert len(find(extent)) == 1
    assert find(extent, policy=POLICY.model_copy(update={"min_score": 0.7})).empty
    assert find(np.zeros((60, 60), np.float32)).empty
