"""What is optimised, and for how long. That training works as a whole is tested with the verbs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hybridseg.nn.classify.heads import Segmenter
from hybridseg.nn.training import fit as fitting
from hybridseg.nn.training.fit import Learner, fit, keep_slow_layers_in_fp32, step_reached
from hybridseg.nn.training.learners import ClassifierLearner, mask_loss, watched


def batch(known: list[int], classes: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Random images with a square of each class; labels of the classes `known` only."""
    torch.manual_seed(0)
    targets = torch.zeros(2, classes, 3, 64, 64)
    targets[:, :, :2, 16:48, 16:48] = 1
    targets[:, known, 2] = 1
    return torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8), targets


@pytest.fixture
def learner() -> ClassifierLearner:
    torch.manual_seed(0)
    made = ClassifierLearner(Segmenter(2), steps=1)
    made.log = lambda *_, **__: None
    return made


@pytest.mark.parametrize("known", [[0], [0, 1], []], ids=["one class", "both", "none"])
def test_classes_without_labels_in_a_batch_learn_nothing(known: list[int], learner: ClassifierLearner):
    loss = learner.training_step(batch(known), 0)
    assert torch.isfinite(loss)
    loss.backward()
    rows = learner.net.head[1].weight.grad.flatten(1).abs().sum(1)
    moved = [2 * k + part for k in known for part in (0, 1)]
    assert (rows[moved] > 0).all()
    assert not rows[[row for row in range(4) if row not in moved]].any()


def test_masks_that_are_right_have_no_loss_and_iou_1():
    truth = torch.zeros(2, 1, 32, 32)
    truth[0, 0, 8:20, 8:20] = 1
    truth[1, 0, :16] = 1
    loss, iou = mask_loss((2 * truth - 1) * 20, truth)
    assert loss.max() < 1e-3
    assert iou.tolist() == [[1.0], [1.0]]
    loss, iou = mask_loss((1 - 2 * truth) * 20, truth)
    assert loss.min() > 10
    assert iou.tolist() == [[0.0], [0.0]]


class Line(Learner):
    """One number that should become 3."""

    def __init__(self, steps: int, first: float = 0.0) -> None:
        net = nn.Linear(1, 1, bias=False)
        net.weight.data.fill_(first)
        super().__init__(net, nn.Identity(), steps, rate=0.5, warmup=1)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.net.parameters(), self.rate)

    def loss(self, batch: tuple[torch.Tensor]) -> torch.Tensor:
        return (self.net(batch[0]) - 3 * batch[0]).square().mean()

    def training_step(self, batch: tuple[torch.Tensor], _: int) -> torch.Tensor:
        return self.loss(batch)


class WatchedLine(Line):
    warm_start = True

    def validation_step(self, batch: tuple[torch.Tensor], _: int) -> None:
        self.log("val_loss", self.loss(batch), batch_size=1)


def ones(worker: int = 0) -> Iterator[tuple[np.ndarray]]:
    return repeat((np.ones((1, 1), np.float32),))


def test_a_training_goes_on_from_the_step_that_was_reached(tmp_path: Path):
    assert step_reached(tmp_path) == 0
    assert fit(Line(9), ones, tmp_path, stop=4, quiet=True, accelerator="cpu") == 4
    assert step_reached(tmp_path) == 4
    assert fit(Line(9), ones, tmp_path, quiet=True, accelerator="cpu") == 9
    assert step_reached(tmp_path) == 9


def test_each_process_that_draws_has_a_stream_of_its_own(tmp_path: Path):
    drawn = []

    class Listening(Line):
        def training_step(self, batch: tuple[torch.Tensor], _: int) -> torch.Tensor:
            drawn.append(batch[0].item())
            return self.loss(batch)

    def numbered(worker: int) -> Iterator[tuple[np.ndarray]]:
        return repeat((np.full((1, 1), worker + 1, np.float32),))

    fit(Listening(6), numbered, tmp_path, quiet=True, accelerator="cpu", workers=2)
    assert sorted(drawn) == [1, 1, 1, 2, 2, 2]


def test_an_average_of_the_weights_comes_out_where_asked(tmp_path: Path):
    def swinging(average: bool) -> float:
        learner = Line(9, first=2.6)
        learner.rate = 0.9
        fit(learner, ones, tmp_path / str(average), quiet=True, accelerator="cpu", average=average)
        return abs(learner.net.weight.item() - 3)

    # each step leaps over the goal, by four fifths of where it was before
    assert swinging(average=False) == pytest.approx(0.4 * 0.8**9, rel=1e-3)
    assert swinging(average=True) < 0.4 * 0.4 * 0.8**9


@pytest.mark.parametrize(("first", "kept"), [(3.0, True), (0.0, False)])
def test_a_warm_start_is_kept_where_nothing_is_better(first: float, kept: bool, tmp_path: Path):
    learner = WatchedLine(4, first)
    watch = [(np.ones((1, 1), np.float32),)]
    steps = fit(learner, ones, tmp_path, every=2, quiet=True, watch=watch, accelerator="cpu")
    assert (steps == 0) == kept
    assert (learner.net.weight.item() == first) == kept
    assert abs(learner.net.weight.item() - 3) < 1.1


def test_only_the_freed_stages_and_the_head_are_trained():
    learner = watched(Segmenter(1), steps=50, rate=1e-3, free=1, warm_start=True)
    names = {name for name, p in learner.net.named_parameters() if p.requires_grad}
    assert any(name.startswith("head") for name in names)
    assert all(name.startswith("trunk.body.blocks.6") for name in names if name.startswith("trunk"))
    assert any(name.startswith("trunk") for name in names)
    assert learner.warm_start
    assert learner.warmup == 5


def test_beside_an_accelerator_all_cores_but_one_draw(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fitting.os, "cpu_count", lambda: 16)
    for device, drawing in (("cpu", 1), ("cuda", 15), ("mps", 15)):
        monkeypatch.setattr(fitting, "pick_device", lambda device=device: torch.device(device))
        assert fitting.workers() == drawing


def test_slow_layers_stay_in_fp32_under_autocast(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fitting, "native_bf16", lambda _: True)
    monkeypatch.setattr(fitting, "pick_device", lambda: torch.device("cpu"))
    assert fitting.precision() == "bf16-mixed"
    monkeypatch.setattr(fitting, "native_bf16", lambda _: False)
    assert fitting.precision() == "32-true"
    layers = nn.ModuleList([nn.Conv2d(4, 4, k, stride, k // 2, groups=g) for k, stride, g in
                            ((5, 1, 4), (3, 2, 4), (3, 1, 4), (5, 1, 1))])  # fmt: skip
    keep_slow_layers_in_fp32(layers)
    with torch.autocast("cpu", torch.bfloat16):
        kinds = [layer(torch.zeros(1, 4, 8, 8)).dtype for layer in layers]
    assert kinds == [torch.float32, torch.float32, torch.bfloat16, torch.bfloat16]
