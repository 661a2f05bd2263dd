"""Networks by OpenVINO: the numbers of torch, kept between processes, and torch where that cannot be."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hybridseg.errors import HybridsegError, MissingExtra
from hybridseg.nn import runtime
from hybridseg.nn.backbones import build_backbone
from hybridseg.nn.cards import embedded, model_folder, read_card
from hybridseg.nn.classify.classifier import Classifier, load_classifier
from hybridseg.nn.classify.heads import LinearSegmenter
from hybridseg.nn.device import native_bf16
from hybridseg.nn.models import Models
from hybridseg.nn.runtime import Runner, pick_runtime, summarise
from hybridseg.nn.sam2 import promptable
from hybridseg.nn.sam2.official import load_refiner
from hybridseg.nn.sam2.promptable import Promptable
from tests.nn.checkpoints import TINY, official
from tests.nn.chips import blocks_chip, random_chip
from tests.nn.test_promptable import asked

pytest.importorskip("openvino")
CPU = torch.device("cpu")
SHAPES = ((2, 2), (32, 32), (16, 32), (32, 32))
"""Of windows, in the deepest strides of a classifier."""
BACKBONES = ["sam2", *(f"timm:{name}" for name in ("resnet18", "convnext_atto", "vit_tiny_patch16_224"))]
CLASSIFIERS = [name for name in embedded() if read_card(model_folder(name)).get("kind") == "classifier"]


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(runtime.CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache" / "openvino"


class Small(nn.Module):
    """A network that is converted in no time."""

    def __init__(self, weight: float = 2.0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)
        nn.init.constant_(self.conv.weight, weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).sigmoid()


class Baked(Small):
    """Its result depends on the side of the first input that it saw while it was traced."""

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * int(x.shape[-1])


class Fixed(Small):
    """The size of its result is the one that it had when traced: other inputs would be read beyond their end."""

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).flatten()[: int(x.numel())].expand(int(x.shape[2]), -1)


class Foreign(Small):
    """OpenVINO has no rule for it."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.hypot(x, self.conv(x))


def examples() -> list[tuple[Tensor, ...]]:
    return [(torch.rand(1, 1, 8, 8),), (torch.rand(1, 1, 16, 12),)]


def runner(net: nn.Module) -> Runner:
    return Runner("net", net.eval(), "openvino", examples)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_an_embedded_classifier_gives_the_numbers_of_torch(name: str):
    ours, theirs = load_classifier(name, "cpu", "openvino"), load_classifier(name, "cpu")
    for height, width in ((256, 320), (416, 224)):  # others than it was converted on
        pixels = random_chip(side=416).pixels[:, :height, :width]
        np.testing.assert_allclose(ours.predict(pixels), theirs.predict(pixels), atol=1e-5)
    assert summarise(ours.runners) == "openvino"
    assert summarise(theirs.runners) == "torch"


def test_sam2_lite_gives_the_numbers_of_torch():
    ours, theirs = load_refiner("sam2-lite", "cpu", runtime="openvino"), load_refiner("sam2-lite", "cpu")
    check_refiner(ours, theirs)


def test_the_official_architecture_gives_the_numbers_of_torch():
    model = official(TINY).eval().requires_grad_(False)
    check_refiner(Promptable(model, "tiny", "", runtime="openvino"), Promptable(model, "tiny", ""))


@torch.inference_mode()
def check_refiner(ours: Promptable, theirs: Promptable) -> None:
    """Encoder against torch in fp32, which `encode` leaves where the CPU has bf16; decoder with hints and without."""
    chip, (points, labels, hints) = blocks_chip(theirs.size_px), asked()
    embedding = ours.encode(chip)
    exact = theirs.runners[0](torch.from_numpy(chip.pixels)[None])
    for made, wanted in zip((embedding.coarse, *embedding.fine), exact, strict=True):
        torch.testing.assert_close(made, wanted, atol=1e-4 * float(wanted.abs().max()), rtol=0)
    hints = np.repeat(np.repeat(hints, theirs.mask_px // 128, 1), theirs.mask_px // 128, 2)
    for given in (hints, None):
        made, wanted = (r.decode(embedding, points, labels, given) for r in (ours, theirs))
        np.testing.assert_allclose(made[0], wanted[0], atol=1e-4 * np.abs(wanted[0]).max())
        np.testing.assert_allclose(made[1], wanted[1], atol=1e-4)
    assert summarise(ours.runners) == "openvino"


@pytest.mark.parametrize(
    "name",
    ["timm:resnet18", "timm:convnext_atto", "timm:vit_tiny_patch16_224", "timm:swin_tiny_patch4_window7_224", "sam2"],
)
def test_a_backbone_gives_the_numbers_of_torch(name: str, tmp_path: Path):
    torch.manual_seed(0)
    net = LinearSegmenter(1, build_backbone(name)).eval().requires_grad_(False)
    card = {"classes": ["building"], "gsd_m": 0.3, "gsd_range_m": [0.1, 1.0]}
    ours, theirs = (Classifier(net, card, tmp_path, "", "cpu", which) for which in ("openvino", "torch"))
    side = net.trunk.image_px or 3 * net.trunk.snap_px
    pixels = random_chip(side=side).pixels
    np.testing.assert_allclose(ours.predict(pixels), theirs.predict(pixels), atol=1e-4)
    assert summarise(ours.runners) == "openvino"


def test_a_shared_encoder_gives_the_numbers_of_its_own_kind(tmp_path: Path):
    """See tests.nn.test_shared_encoder for what it is."""
    from hybridseg.nn.weights import save_weights

    torch.manual_seed(0)
    net = LinearSegmenter(1, build_backbone("sam2", pretrained=True))
    card = {"classes": ["building"], "gsd_m": 0.3, "gsd_range_m": [0.1, 1.0], "head": "linear", "backbone": "sam2"}
    save_weights(net, tmp_path / "on-sam2", card)
    models = Models.open(tmp_path / "on-sam2", "sam2-lite", "cpu", True, tmp_path, "openvino")
    assert models.shared
    alone = load_classifier(tmp_path / "on-sam2", "cpu")
    pixels = random_chip().pixels
    np.testing.assert_allclose(models.classifier.predict(pixels), alone.predict(pixels), atol=1e-4)
    assert summarise(models.runners) == "openvino"


def test_what_was_converted_is_kept_for_other_processes(own_cache: Path, monkeypatch: pytest.MonkeyPatch):
    net, x = Small().eval(), torch.rand(1, 1, 20, 24)
    first = runner(net)(x)[0]
    (kept,) = own_cache.iterdir()
    monkeypatch.setattr(runtime, "_convert", lambda *_: pytest.fail("converted again"))
    again = runner(net)
    assert torch.equal(again(x)[0], first)
    assert summarise([again]) == "openvino"
    torch.testing.assert_close(first, net(x), atol=1e-6, rtol=0)
    assert [path.name for path in own_cache.iterdir()] == [kept.name]


@pytest.mark.parametrize("damage", [b"", b"short", "cut", "flipped"])
def test_a_damaged_file_is_a_miss(damage: bytes | str, own_cache: Path):
    net, x = Small().eval(), torch.rand(1, 1, 8, 8)
    first = runner(net)(x)[0]
    (kept,) = own_cache.iterdir()
    whole = kept.read_bytes()
    broken = bytearray(whole)
    broken[len(whole) // 2] ^= 1
    kept.write_bytes(damage if isinstance(damage, bytes) else {"cut": whole[:-9], "flipped": bytes(broken)}[damage])
    assert torch.equal(runner(net)(x)[0], first)
    assert kept.read_bytes()[:16] == runtime._sealed(True, kept.read_bytes()[17:])[:16]


def test_other_weights_are_another_network(own_cache: Path):
    x = torch.ones(1, 1, 8, 8)
    assert not torch.equal(runner(Small(0.1))(x)[0], runner(Small(-0.1))(x)[0])
    assert len(list(own_cache.iterdir())) == 2


@pytest.mark.usefixtures("own_cache")
def test_want_of_memory_is_not_remembered(monkeypatch: pytest.MonkeyPatch):
    def fails(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(runtime, "_convert", fails)
        first = runner(Small())
        first(torch.rand(1, 1, 8, 8))
    second = runner(Small())
    second(torch.rand(1, 1, 8, 8))
    assert summarise([first]) == "torch, since net cannot be converted (MemoryError)"
    assert summarise([second]) == "openvino"


def test_a_network_that_cannot_be_kept_is_converted_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv(runtime.CACHE_VARIABLE, str(tmp_path / "file"))
    small = runner(Small())
    small(torch.rand(1, 1, 8, 8))
    assert summarise([small]) == "openvino"


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        (Foreign(), "cannot be converted"),
        (Baked(), "gives other numbers"),
        (Fixed(), "has sizes that cannot change"),
    ],
    ids=["rule", "numbers", "sizes"],
)
def test_torch_runs_what_openvino_cannot_and_says_so(net: nn.Module, reason: str, own_cache: Path):
    x = torch.rand(1, 1, 16, 12)
    for number in range(2):  # the second time by what is kept
        fallen = runner(net)
        assert torch.equal(fallen(x)[0], net.eval()(x)), number
        assert summarise([fallen]).startswith("torch, since net ")
        assert reason in summarise([fallen])
    good = runner(Small())
    good(x)
    assert summarise([good, fallen]).startswith("openvino; torch, since net ")


def test_auto_takes_openvino_on_a_cpu_where_it_is_installed(monkeypatch: pytest.MonkeyPatch):
    assert pick_runtime("auto", CPU) == "openvino"
    assert pick_runtime("auto", torch.device("cuda")) == "torch"
    assert pick_runtime("torch", CPU) == "torch"
    with pytest.raises(HybridsegError, match="no runtime 'onnx'; give auto, torch or openvino"):
        pick_runtime("onnx", CPU)
    with pytest.raises(HybridsegError, match="openvino runs on the CPU, not on cuda; give --device cpu"):
        pick_runtime("openvino", torch.device("cuda"))
    monkeypatch.setattr(runtime.importlib.util, "find_spec", lambda _: None)
    assert pick_runtime("auto", CPU) == "torch"
    with pytest.raises(MissingExtra, match="openvino is not installed; pip install openvino"):
        pick_runtime("openvino", CPU)


def test_nothing_is_reported_to_anybody():
    """OpenVINO's own telemetry would send an event at its import."""
    code = (
        "import sys, torch; from hybridseg.nn import runtime; runtime._core(); "
        "print([name for name in sys.modules if name.startswith('openvino_telemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.stdout.strip() == "[]", done.stderr


def test_threads_share_a_network(own_cache: Path):
    net = Small().eval()
    shared = runner(net)
    inputs = [torch.rand(1, 1, 8 + number, 12) for number in range(12)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda x: shared(x)[0], inputs))
    for x, result in zip(inputs, results, strict=True):
        torch.testing.assert_close(result, net(x), atol=1e-6, rtol=0)
    assert len(list(own_cache.iterdir())) == 1


@torch.inference_mode()
def test_a_large_encoder_is_run_in_bf16_with_about_the_masks_of_sam2(monkeypatch: pytest.MonkeyPatch):
    """Against fp32 and whole images, as `SAM2ImagePredictor` computes them."""
    monkeypatch.setattr(promptable, "native_bf16", lambda _: True)
    model = official(TINY).eval().requires_grad_(False)
    ours, theirs = Promptable(model, "tiny", "", runtime="openvino", large=True), Promptable(model, "tiny", "")
    chip, (points, labels, hints) = blocks_chip(1024), asked()
    made, exact = ours.encode(chip), theirs.encode(chip)
    assert not torch.equal(made.coarse, exact.coarse) or not native_bf16(CPU)
    apart = (made.coarse - exact.coarse).abs().mean() / exact.coarse.abs().mean()
    assert apart < runtime.BF16_BOUND
    hints = np.repeat(np.repeat(hints, 2, 1), 2, 2)
    (logits, _), (wanted, _) = ours.decode(made, points, labels, hints), theirs.decode(exact, points, labels, hints)
    inside, whole = logits > 0, wanted > 0
    assert ((inside & whole).sum((1, 2)) / (inside | whole).sum((1, 2))).min() > 0.97


def test_bf16_is_taken_where_it_gives_about_the_numbers_of_torch(own_cache: Path, monkeypatch: pytest.MonkeyPatch):
    x, net = torch.rand(1, 1, 8, 8), Small().eval()
    for bound, files in ((1.0, 1), (-1.0, 2)):  # the second time it never does
        monkeypatch.setattr(runtime, "BF16_BOUND", bound)
        own_cache.mkdir(parents=True, exist_ok=True)
        for kept in own_cache.iterdir():
            kept.unlink()
        made = Runner("net", net, "openvino", examples, bf16=True)
        torch.testing.assert_close(made(x)[0], net(x), atol=1e-2 if bound > 0 else 1e-6, rtol=0)
        assert summarise([made]) == "openvino"
        assert len(list(own_cache.iterdir())) == files


class Wide(Small):
    """Small, with a middle that takes 64 times its input."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Sequential(nn.Conv2d(1, 64, 3, padding=1), nn.Sigmoid(), nn.Conv2d(64, 1, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return self.wide(x)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="asks Linux what the process holds")
def test_what_a_large_input_took_is_given_back(own_cache: Path) -> None:
    def held_mb() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

    examples = [(torch.rand(1, 1, side, side),) for side in (16, 24)]
    runner = Runner("wide", Wide().eval(), "openvino", lambda: examples)
    models = Models(SimpleNamespace(runners=(runner,)))
    models.end_first_sweep()  # nothing was computed yet
    large = torch.rand(1, 1, 1024, 1024)
    (before,) = runner(large)
    held = held_mb()
    models.end_first_sweep()
    assert held - held_mb() > 100
    torch.testing.assert_close(runner(large)[0], before, rtol=0, atol=0)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="asks Linux what the process holds")
@pytest.mark.parametrize("again", [False, True], ids=["converted", "kept"])
@torch.inference_mode()
def test_a_classifier_takes_less_memory_compiled_for_each_shape(again: bool, own_cache: Path) -> None:
    """And gives the same numbers. What takes memory is maps that wait for a layer far behind, so no toy will do."""

    def most_mb() -> float:
        return int(next(line for line in status.read_text().splitlines() if "VmHWM" in line).split()[1]) / 1e3

    status, classifier = Path("/proc/self/status"), load_classifier("buildings-lite0", "cpu", "openvino")
    (asked,) = classifier.runners
    runners = [Runner("net", asked._net, "openvino", classifier._examples, large=large) for large in (True, False)]
    small, *inputs = [torch.randint(0, 256, (1, 3, 32 * h, 32 * w), dtype=torch.uint8) for h, w in SHAPES]
    if again:
        Runner("net", asked._net, "openvino", classifier._examples, large=True)(small)
    taken, made = [], []
    for runner in runners:
        runner(small)
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew
        before = most_mb()
        made.append([runner(x)[0] for x in inputs])
        taken.append(most_mb() - before)
        runner.release()
    assert asked._form is runners[0]._form
    assert taken[0] < 0.8 * taken[1]
    for one, other in zip(*made, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    assert summarise(runners) == "openvino"
    assert len(list(own_cache.iterdir())) == 2
