"""What every refiner must do, by whatever name it came, and what may go wrong on the way. Weights are random."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from sam2 import build_sam
from torch import nn

from hybridseg.errors import WeightsError
from hybridseg.nn.cards import sha256
from hybridseg.nn.classify.segmenter import Segmenter
from hybridseg.nn.sam2.embedding import Embedding
from hybridseg.nn.sam2.lite import build_sam2_lite
from hybridseg.nn.sam2.official import _SIZES, OFFICIAL, load_refiner
from hybridseg.nn.sam2.promptable import Promptable
from hybridseg.nn.weights import save_weights
from tests.nn.chips import chip_of
from tests.nn.hub import serve

TINY = "sam2.1-hiera-tiny"
SERVED = f"facebook/{TINY}/sam2.1_hiera_tiny.pt"


def official(name: str) -> nn.Module:
    torch.manual_seed(0)
    config, _ = build_sam.HF_MODEL_ID_TO_FILENAMES[f"facebook/{name}"]
    return build_sam.build_sam2(config, device="cpu")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Like an official file, 156 MB: taken away at the end, or pytest would keep it for three runs."""
    path = tmp_path_factory.mktemp("official") / "tiny.pt"
    torch.save({"model": official(TINY).state_dict()}, path)
    yield path
    path.unlink()


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    save_weights(build_sam2_lite(), folder / "sam2-lite", {"kind": "refiner"})
    return folder


# --- the contract -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    refiner: Promptable
    pixels: np.ndarray
    embedding: Embedding

    @property
    def side(self) -> int:
        return self.refiner.size_px


@pytest.fixture(scope="module", params=["lite", "official"])
def case(request: pytest.FixtureRequest) -> Case:
    """A refiner, an image and its embedding: encoded once for all tests, as in a run."""
    source = (
        request.getfixturevalue("models") / "sam2-lite"
        if request.param == "lite"
        else request.getfixturevalue("checkpoint")
    )
    refiner = load_refiner(source, "cpu")
    pixels = np.random.default_rng(0).integers(0, 255, (3, refiner.size_px, refiner.size_px), np.uint8)
    return Case(refiner, pixels, refiner.encode(chip_of(pixels)))


BOXES = [[(0.1, 0.1), (0.4, 0.3)], [(0.5, 0.2), (0.9, 0.9)], [(0.0, 0.0), (1.0, 1.0)]]
POINTS = [[(0.2, 0.2)], [(0.7, 0.5)], [(0.5, 0.9)]]
MANY = [[(0.2, 0.2)], [(0.7, 0.5), (0.6, 0.4), (0.1, 0.9)], [(0.5, 0.9), (0.5, 0.1)]]
LABELS = {
    "box": (BOXES, [[2, 3]] * 3),
    "points": (POINTS, [[1]] * 3),
    "differing": (MANY, [[1, -1, -1], [1, 1, 0], [1, 0, -1]]),
}


def prompts(kind: str, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Three prompts: points (3, P, 2) in pixels and labels (3, P)."""
    shares, labels = LABELS[kind]
    width = len(labels[0])
    padded = [row + [(0.0, 0.0)] * (width - len(row)) for row in shares]
    return np.array(padded, np.float32) * side, np.array(labels, np.int32)


def hints(mask_px: int) -> np.ndarray:
    """Three different rectangles as logits."""
    logits = np.full((3, mask_px, mask_px), -6, np.float32)
    for i, part in enumerate((slice(5, 20), slice(30, 60), slice(60, 100))):
        logits[i, part, part] = 6
    return logits


@pytest.mark.parametrize("hinted", [False, True])
@pytest.mark.parametrize("kind", LABELS)
def test_prompts_are_decoded_together_as_each_alone(case: Case, kind: str, hinted: bool):
    points, labels = prompts(kind, case.side)
    hint = hints(case.refiner.mask_px) if hinted else None
    logits, iou = case.refiner.decode(case.embedding, points, labels, hint)
    assert logits.shape == (3, case.side // 4, case.side // 4)
    assert iou.shape == (3,)
    assert logits.dtype == iou.dtype == np.float32
    assert np.isfinite(logits).all()
    assert ((iou >= 0) & (iou <= 1)).all()
    assert np.abs(logits[0] - logits[1]).max() > 1e-2, "prompts do not matter"
    for i in range(3):
        one = slice(i, i + 1)
        mask, sure = case.refiner.decode(case.embedding, points[one], labels[one], None if hint is None else hint[one])
        assert mask.shape == logits[one].shape
        assert sure.shape == (1,)
        np.testing.assert_allclose(mask, logits[one], atol=1e-3)
        np.testing.assert_allclose(sure, iou[one], atol=1e-3)


def test_where_padding_lies_does_not_matter(case: Case):
    # how much of it there is does, a little: each is a "not a point" token to SAM2, so Refine must pad all alike
    points, _ = prompts("points", case.side)
    both = np.concatenate([points[:1], points[1:2]], axis=1)
    last, _ = case.refiner.decode(case.embedding, both, np.array([[1, -1]], np.int32), None)
    first, _ = case.refiner.decode(case.embedding, both[:, ::-1].copy(), np.array([[-1, 1]], np.int32), None)
    elsewhere, _ = case.refiner.decode(
        case.embedding, both + np.float32([[[0], [9]]]), np.array([[1, -1]], np.int32), None
    )
    np.testing.assert_allclose(first, last, atol=1e-3)
    np.testing.assert_allclose(elsewhere, last, atol=1e-3)


def test_hints_matter(case: Case):
    points, labels = prompts("box", case.side)
    bare, _ = case.refiner.decode(case.embedding, points[:1], labels[:1], None)
    hinted, _ = case.refiner.decode(case.embedding, points[:1], labels[:1], hints(case.refiner.mask_px)[:1])
    assert np.abs(bare - hinted).max() > 1e-2


def test_the_same_pixels_give_the_same_embedding(case: Case):
    again = case.refiner.encode(chip_of(case.pixels))
    assert torch.equal(again.coarse, case.embedding.coarse)
    assert all(torch.equal(a, b) for a, b in zip(again.fine, case.embedding.fine, strict=True))


def test_a_refiner_knows_its_weights(case: Case, checkpoint: Path, models: Path):
    weights = {"tiny": checkpoint, "sam2-lite": models / "sam2-lite" / "weights.safetensors"}[case.refiner.name]
    assert case.refiner.sha256 == sha256(weights)
    assert not case.refiner.model.training


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


def one_line(error: pytest.ExceptionInfo[WeightsError]) -> str:
    message = str(error.value)
    assert message
    assert "\n" not in message
    return message


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


NO_CHECKPOINT = {
    "text": text,
    "empty": lambda path: (path.touch(), path)[1],
    "folder": folder,
    "list": lambda path: save([1, 2], path),
    "no model in it": lambda path: save({"state": {}}, path),
    "another model": lambda path: save({"model": {"weight": torch.zeros(2)}}, path),
    "no state": lambda path: save({"model": torch.zeros(2)}, path),
}


@pytest.mark.parametrize("kind", NO_CHECKPOINT)
def test_what_is_no_checkpoint_is_refused_in_one_line(kind: str, tmp_path: Path):
    path = NO_CHECKPOINT[kind](tmp_path / "x.pt")
    with pytest.raises(WeightsError, match=r"x\.pt") as error:
        load_refiner(path, "cpu")
    one_line(error)


def test_a_checkpoint_that_is_cut_short_is_refused_in_one_line(checkpoint: Path, tmp_path: Path):
    with checkpoint.open("rb") as whole:
        (tmp_path / "x.pt").write_bytes(whole.read(1_000_000))
    with pytest.raises(WeightsError, match=r"x\.pt") as error:
        load_refiner(tmp_path / "x.pt", "cpu")
    one_line(error)


def test_a_checkpoint_whose_keys_do_not_fit_is_refused_in_one_line(tmp_path: Path):
    blocks = {f"image_encoder.trunk.blocks.{i}.weight": torch.zeros(1) for i in range(12)}
    patch = {"image_encoder.trunk.patch_embed.proj.weight": torch.zeros(96, 3, 7, 7)}
    with pytest.raises(WeightsError, match="does not fit SAM2 tiny") as error:
        load_refiner(save({"model": blocks | patch}, tmp_path / "x.pt"), "cpu")
    one_line(error)
    wide = {"image_encoder.trunk.patch_embed.proj.weight": torch.zeros(97, 3, 7, 7)}
    with pytest.raises(WeightsError, match="unknown size") as error:
        load_refiner(save({"model": blocks | wide}, tmp_path / "x.pt"), "cpu")
    one_line(error)


def test_a_classifiers_folder_is_no_refiner(tmp_path: Path):
    save_weights(Segmenter(classes=1), tmp_path / "heat", {"classes": ["building"]})
    with pytest.raises(WeightsError, match="does not fit") as error:
        load_refiner(tmp_path / "heat", "cpu")
    one_line(error)
