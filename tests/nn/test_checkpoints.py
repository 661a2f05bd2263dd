"""Refiners by name and by file: which architecture a file holds, the hub, and names and files that are refused."""

from __future__ import annotations

import pickle
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from omegaconf import OmegaConf
from sam2 import build_sam

from hybridseg.errors import WeightsError
from hybridseg.nn.cards import sha256
from hybridseg.nn.classify.heads import Segmenter
from hybridseg.nn.sam2.official import _SIZES, OFFICIAL, load_refiner
from hybridseg.nn.weights import save_weights
from tests.nn.checkpoints import TINY, official, one_line
from tests.nn.hub import serve

SERVED = f"facebook/{TINY}/sam2.1_hiera_tiny.pt"


# --- which architecture a file holds ----------------------------------------------------------------------------------


def test_size_and_version_are_read_off_the_weights(tmp_path: Path):
    state = official("sam2-hiera-small").state_dict()
    # one number a tensor, spread over its shape: a file of kilobytes that loads like the real one
    torch.save(
        {"model": {key: value.new_zeros(()).expand_as(value) for key, value in state.items()}}, tmp_path / "any.pt"
    )
    refiner = load_refiner(tmp_path / "any.pt", "cpu")
    assert refiner.name == "any"
    assert len(refiner.model.image_encoder.trunk.blocks) == 16
    assert refiner.model.no_obj_embed_spatial is None  # what 2.1 has and 2.0 has not


@pytest.mark.parametrize("name", OFFICIAL)
def test_every_official_size_is_known_by_width_and_depth(name: str):
    config, _ = build_sam.HF_MODEL_ID_TO_FILENAMES[OFFICIAL[name]]
    trunk = OmegaConf.load(Path(build_sam.__file__).parent / config).model.image_encoder.trunk
    # what a config leaves out is Hiera's default
    found = _SIZES[trunk.get("embed_dim", 96), sum(trunk.get("stages", (2, 3, 16, 3)))]
    assert name.endswith(f"hiera-{found}")


# --- by name, from the hub --------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, and no waiting between the client's attempts."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr("time.sleep", lambda _: None)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch):
    """Turns the client to another hub. HF_ENDPOINT would do it too, but is read when huggingface_hub is imported."""

    def turn(url: str) -> None:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)
        template = f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)

    return turn


def test_an_official_name_is_fetched_once_and_then_needs_no_hub(checkpoint: Path, cache: Path, ask):
    with serve({SERVED: checkpoint}) as hub:
        ask(hub.url)
        hub.breaks = 1  # a connection that breaks half-way is taken up again
        fetched = load_refiner(TINY, "cpu")
        gets = [request for request in hub.requests if request.startswith(f"GET /facebook/{TINY}/")]
    assert len(gets) == 2
    assert gets[0].endswith("/resolve/main/sam2.1_hiera_tiny.pt")
    assert "bytes=" in gets[1]
    assert fetched.sha256 == sha256(checkpoint)
    assert fetched.name == "sam2.1_hiera_tiny"
    assert [path.name for path in cache.glob("models--*")] == [f"models--facebook--{TINY}"]
    again = load_refiner(f"facebook/{TINY}", "cpu")  # the hub is gone
    assert again.sha256 == fetched.sha256


@pytest.mark.parametrize("served", [{}, {f"facebook/{TINY}/other.pt": Path()}], ids=["no repository", "no such file"])
def test_a_hub_that_lacks_the_model_gives_one_line(served: dict[str, Path], cache: Path, ask):
    with serve(served) as hub:
        ask(hub.url)
        with pytest.raises(WeightsError, match=r"sam2\.1_hiera_tiny\.pt") as error:
            load_refiner(TINY, "cpu")
        assert hub.requests
    one_line(error)


def test_a_hub_that_is_not_there_gives_one_line(cache: Path, ask):
    with serve({}) as hub:
        gone = hub.url
    ask(gone)
    with pytest.raises(WeightsError, match="check the connection") as error:
        load_refiner(TINY, "cpu")
    one_line(error)


def test_a_hub_that_keeps_breaking_off_gives_one_line(cache: Path, ask, tmp_path: Path):
    (tmp_path / "any.pt").write_bytes(b"0" * 1000)
    with serve({SERVED: tmp_path / "any.pt"}) as hub:
        ask(hub.url)
        hub.breaks, hub.sent = 100, 0.0
        with pytest.raises(WeightsError, match=r"sam2\.1_hiera_tiny\.pt") as error:
            load_refiner(TINY, "cpu")
    one_line(error)


# --- names and files that will not do ---------------------------------------------------------------------------------


def test_an_unknown_name_lists_what_there_is(models: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HYBRIDSEG_MODELS", str(models))
    with pytest.raises(WeightsError, match="sam3") as error:
        load_refiner("sam3", "cpu")
    message = one_line(error)
    assert "sam2-lite" in message
    assert all(name in message for name in OFFICIAL)


def test_a_missing_checkpoint_is_said_to_be_missing(tmp_path: Path):
    with pytest.raises(WeightsError, match="no checkpoint at") as error:
        load_refiner(tmp_path / "none.pt", "cpu")
    one_line(error)


def save(value: object, path: Path) -> Path:
    torch.save(value, path)
    return path


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def text(path: Path) -> Path:
    path.write_text("no weights here\n")
    return path


def odd(value: object, path: Path) -> Path:
    """A checkpoint with the weight that names the architecture replaced."""
    blocks = {f"image_encoder.trunk.blocks.{i}.weight": torch.zeros(1) for i in range(12)}
    return save({"model": blocks | {PATCH: value}}, path)


PATCH = "image_encoder.trunk.patch_embed.proj.weight"
NO_CHECKPOINT = {
    "plain text": text,
    "empty": lambda path: (path.touch(), path)[1],
    "folder": folder,
    "list": lambda path: save([1, 2], path),
    "no model in it": lambda path: save({"state": {}}, path),
    "another model": lambda path: save({"model": {"weight": torch.zeros(2)}}, path),
    "no state": lambda path: save({"model": torch.zeros(2)}, path),
    "a list of weights": lambda path: save({"model": [torch.zeros(2)]}, path),
    "text": lambda path: save({"model": "text"}, path),
    "numbers for names": lambda path: save({"model": {1: torch.zeros(2), PATCH: torch.zeros(96, 3, 7, 7)}}, path),
    "text for a weight": lambda path: odd("text", path),
    "none for a weight": lambda path: odd(None, path),
    "a weight without shape": lambda path: odd(torch.tensor(1.0), path),
    "a sparse weight": lambda path: odd(torch.zeros(96, 3, 7, 7).to_sparse(), path),
    "a complex weight": lambda path: odd(torch.zeros(96, 3, 7, 7, dtype=torch.complex64), path),
    "a weight without memory": lambda path: odd(torch.zeros(96, 3, 7, 7, device="meta"), path),
    "code": lambda path: save({"model": print}, path),
}


@pytest.mark.parametrize("kind", NO_CHECKPOINT)
def test_what_is_no_checkpoint_is_refused_in_one_line(kind: str, tmp_path: Path):
    path = NO_CHECKPOINT[kind](tmp_path / "x.pt")
    with pytest.raises(WeightsError, match=r"x\.pt") as error:
        load_refiner(path, "cpu")
    one_line(error)


def test_a_checkpoint_that_is_not_finite_is_refused_in_one_line(tmp_path: Path):
    with pytest.raises(WeightsError, match=r"x\.pt is damaged: .*patch_embed.* not finite") as error:
        load_refiner(odd(torch.full((96, 3, 7, 7), torch.nan), tmp_path / "x.pt"), "cpu")
    one_line(error)


def test_a_checkpoint_that_is_cut_short_is_refused_in_one_line(checkpoint: Path, tmp_path: Path):
    with checkpoint.open("rb") as whole:
        (tmp_path / "x.pt").write_bytes(whole.read(1_000_000))
    with pytest.raises(WeightsError, match=r"x\.pt") as error:
        load_refiner(tmp_path / "x.pt", "cpu")
    one_line(error)


def test_a_checkpoint_whose_keys_do_not_fit_is_refused_in_one_line(tmp_path: Path):
    with pytest.raises(WeightsError, match="does not fit SAM2 tiny") as error:
        load_refiner(odd(torch.zeros(96, 3, 7, 7), tmp_path / "x.pt"), "cpu")
    one_line(error)
    with pytest.raises(WeightsError, match="unknown size") as error:
        load_refiner(odd(torch.zeros(97, 3, 7, 7), tmp_path / "x.pt"), "cpu")
    one_line(error)


def test_a_classifiers_folder_is_no_refiner(tmp_path: Path):
    save_weights(Segmenter(classes=1), tmp_path / "heat", {"classes": ["building"]})
    with pytest.raises(WeightsError, match="does not fit") as error:
        load_refiner(tmp_path / "heat", "cpu")
    one_line(error)


def test_what_torch_thinks_of_a_foreign_file_is_not_said(tmp_path: Path):
    path = tmp_path / "odd.pt"
    path.write_bytes(pickle.dumps({"model": {}}, protocol=4))
    with warnings.catch_warnings(record=True, action="always") as said, pytest.raises(WeightsError, match="not a SAM2"):
        load_refiner(str(path), "cpu")
    assert not said
