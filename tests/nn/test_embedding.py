from __future__ import annotations

import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from hybridseg.nn.sam2.embedding import Embedding, EmbeddingFolder
from tests.conftest import geobox

BYTES = 2 * (4 * 8 * 8 + 2 * 32 * 32 + 2 * 16 * 16)
"""Of one embedding as below, in fp16, without the file's header."""


def embedding(seed: int = 0) -> Embedding:
    generator = torch.Generator().manual_seed(seed)
    shapes = (1, 4, 8, 8), (1, 2, 32, 32), (1, 2, 16, 16)
    coarse, *fine = (torch.randn(shape, generator=generator) for shape in shapes)
    return Embedding(coarse, tuple(fine), geobox(128))


def same(one: Embedding, other: Embedding) -> bool:
    pairs = zip((one.coarse, *one.fine), (other.coarse, *other.fine), strict=True)
    return one.geobox == other.geobox and all(torch.equal(a.half(), b.half()) for a, b in pairs)


def test_an_embedding_keeps_its_place_and_its_maps_in_halves():
    first = embedding()
    arrays = first.to_arrays()
    assert {name: a.dtype for name, a in arrays.items()} == dict.fromkeys(("coarse", "fine_0", "fine_1"), np.float16)
    again = Embedding.from_arrays(arrays, first.geobox)
    assert again.coarse.dtype == torch.float32
    assert same(first, again)
    assert same(first, pickle.loads(pickle.dumps(first)))


@pytest.mark.parametrize("left", [[], ["coarse"], ["coarse", "fine_0"], ["fine_0", "fine_1"]])
def test_maps_that_are_missing_are_named(left: list[str]):
    arrays = embedding().to_arrays()
    with pytest.raises(ValueError, match="coarse, fine_0, fine_1; got"):
        Embedding.from_arrays({name: arrays[name] for name in left}, geobox(128))


def test_a_folder_gives_back_what_it_was_given(tmp_path: Path):
    folder = EmbeddingFolder(tmp_path / "new" / "folder")
    assert folder.load("a") is None
    folder.save("a", embedding().to_arrays())
    assert folder.load("b") is None
    assert same(Embedding.from_arrays(folder.load("a"), geobox(128)), embedding())
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize("damage", [b"", b"no safetensors", None], ids=["empty", "text", "cut short"])
def test_a_file_that_cannot_be_read_counts_as_none(damage: bytes | None, tmp_path: Path):
    folder = EmbeddingFolder(tmp_path)
    folder.save("a", embedding().to_arrays())
    path = tmp_path / "a.safetensors"
    path.write_bytes(path.read_bytes()[:-20] if damage is None else damage)
    assert folder.load("a") is None
    folder.save("a", embedding().to_arrays())
    assert folder.load("a") is not None


def test_a_folder_that_cannot_be_written_keeps_nothing_and_leaves_nothing(tmp_path: Path):
    (tmp_path / "file").touch()
    folder = EmbeddingFolder(tmp_path / "file")
    folder.save("a", embedding().to_arrays())
    assert folder.load("a") is None
    (tmp_path / "a.safetensors").mkdir()  # in the file's place
    EmbeddingFolder(tmp_path).save("a", embedding().to_arrays())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "file"]


def test_what_was_used_least_recently_goes_first(tmp_path: Path):
    folder = EmbeddingFolder(tmp_path, most_bytes=int(4.5 * BYTES))
    for number, key in enumerate("abcd"):
        folder.save(key, embedding(number).to_arrays())
        os.utime(tmp_path / f"{key}.safetensors", (number, number))
    (tmp_path / "heatmap.tif").write_bytes(b"0" * 10 * BYTES)  # of somebody else
    assert folder.load("a") is not None  # used now: b is the oldest
    folder.save("e", embedding().to_arrays())
    assert {path.stem for path in tmp_path.glob("*.safetensors")} == {"a", "c", "d", "e"}
    assert (tmp_path / "heatmap.tif").exists()


def test_writers_of_one_key_do_not_clash(tmp_path: Path):
    def write(number: int) -> None:
        EmbeddingFolder(tmp_path).save("a", embedding(number).to_arrays())

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(40)))
    read = Embedding.from_arrays(EmbeddingFolder(tmp_path).load("a"), geobox(128))
    assert any(same(read, embedding(number)) for number in range(40))
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
