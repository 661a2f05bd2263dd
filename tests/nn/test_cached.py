"""Embeddings that are kept: found again by pixels and weights, whoever encoded them."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from hybridseg.nn.models import Models
from hybridseg.nn.sam2.embedding import MAPS, EmbeddingFolder
from hybridseg.nn.sam2.official import load_refiner
from hybridseg.nn.sam2.shared_encoder import CachedRefiner
from hybridseg.types import Chip
from tests.doubles import CountedEncoder
from tests.nn.chips import random_chip


@pytest.fixture(scope="module")
def encoder() -> CountedEncoder:
    return CountedEncoder(load_refiner("sam2-lite", "cpu"))


def cached(folder: Path) -> CachedRefiner:
    return CachedRefiner(load_refiner("sam2-lite", "cpu"), EmbeddingFolder(folder))


def masks(refiner: object, chip: Chip) -> tuple[np.ndarray, np.ndarray]:
    points = np.array([[[100, 100], [300, 280]]], np.float32)
    return refiner.decode(refiner.encode(chip), points, np.array([[2, 3]], np.int32), None)  # type: ignore[attr-defined]


def test_a_window_is_encoded_once_for_all_runs(tmp_path: Path, encoder: CountedEncoder):
    chip, before = random_chip(), encoder.runs
    first, second = masks(cached(tmp_path), chip), masks(cached(tmp_path), chip)
    assert encoder.runs == before + 1
    for one, two in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, two)  # found or made, it is the same
    other = Chip(255 - chip.pixels, chip.valid, chip.geobox)
    masks(cached(tmp_path), other)
    assert encoder.runs == before + 2
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


def test_rounding_to_halves_moves_no_mask(tmp_path: Path):
    chip = random_chip()
    (own, own_iou), (kept, kept_iou) = masks(load_refiner("sam2-lite", "cpu"), chip), masks(cached(tmp_path), chip)
    np.testing.assert_allclose(kept, own, atol=0.05)
    np.testing.assert_allclose(kept_iou, own_iou, atol=2e-3)


def test_a_damaged_file_is_encoded_anew(tmp_path: Path, encoder: CountedEncoder):
    chip, before = random_chip(), encoder.runs
    first = masks(cached(tmp_path), chip)
    (path,) = tmp_path.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:1000])
    np.testing.assert_array_equal(masks(cached(tmp_path), chip)[0], first[0])
    assert encoder.runs == before + 2


def test_models_keep_embeddings_where_a_folder_is_given(tmp_path: Path):
    models = Models.open("land-lite0", "sam2-lite", "cpu", cache=tmp_path)
    assert isinstance(models.refiner, CachedRefiner)
    again = pickle.loads(pickle.dumps(models)).refiner
    assert again.refiner is models.refiner.refiner
    again.cache.save("key", arrays := {name: np.zeros(1, np.float16) for name in MAPS})
    assert models.refiner.cache.load("key").keys() == arrays.keys()
    assert models.refiner.name == models.refiner_name == "sam2-lite"
