"""Settings, calibration and figures of a new classifier come from ground that chose none of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from hybridseg.finetuning import settle
from hybridseg.finetuning.model import Finetuned
from hybridseg.finetuning.settle import CROSSED, HALF, UNCROSSED, UNSEARCHED, Settle
from hybridseg.labels.labelled import Labelled, on_grid
from hybridseg.labels.split import Split
from hybridseg.run.progress import Quiet
from hybridseg.theme import Theme, load_theme
from tests.doubles import Bright, Threshold, survey
from tests.faint import GSD_M, place

# in the west what is faint is no object, in the east it is one: settings of the one side are wrong on the other
ROWS = ("bbxx..bfbf", "bbxx..bfbf", "bbxx..bfbf", "bbxx..bfbf")
CARD = {"name": "mine", "classes": ["building"], "gsd_m": 0.3, "gsd_range_m": [0.1, 0.6], "head": "linear",
        "backbone": "lite0", "start": None, "objects": {"building": 24}}  # fmt: skip


@pytest.fixture(autouse=True)
def networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hybridseg.nn.models.load_classifier", lambda *_: Bright())
    monkeypatch.setattr("hybridseg.nn.models.load_refiner", lambda name, *_, **__: Threshold(name=name))


@pytest.fixture
def labelled(tmp_path: Path) -> Labelled:
    return place(tmp_path, ROWS)


def settle_on(out: Path, labelled: Labelled, folds: int = 2, **more: Any) -> Settle:
    """The west and the east as folds of validation ground; or the east alone."""
    grid = on_grid(labelled, ["building"], GSD_M, 32)
    height, width = grid.image.valid.shape
    west = np.broadcast_to(np.arange(width) < width / 2, (height, width))
    sides = (west & (folds == 2), ~west)
    ids = grid.image.objects["building"]
    split = Split(np.zeros_like(west), sides, tuple(len(np.unique(ids[side])) - 1 for side in sides))
    given: dict[str, Any] = {"searching": True, "refiner": None, "device": "cpu", "progress": Quiet()}
    return Settle(out, [grid], [split], **given | more)


def settled(out: Path, labelled: Labelled, folds: int = 2, **more: Any) -> dict[str, Any]:
    net = torch.nn.Linear(1, 1)
    return settle_on(out, labelled, folds, **more)(net, CARD, [load_theme("buildings")], "after a test")


@pytest.fixture(scope="module")
def crossed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with both folds; without a refiner, for speed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hybridseg.nn.models.load_classifier", lambda *_: Bright())
        patch.setattr("hybridseg.search.GATES", {"agreement": (0.0,)})
        folder = tmp_path_factory.mktemp("crossed")
        settled(folder / "m", place(folder, ROWS), refiner="none")
    return folder / "m"


def test_settings_are_searched_on_one_fold_and_judged_on_the_other(crossed: Path):
    card = yaml.safe_load((crossed / "card.yaml").read_text())
    assert card["scores"]["what"] == CROSSED
    *folds, both = card["scores"]["places"]
    found = {fold["objects"]: fold for fold in folds}
    assert set(found) == {8, 16}
    # the west with the east's settings: 8 faint are taken for objects; the east with the west's: 8 faint are missed
    assert (found[8]["precision"], found[8]["recall"]) == (0.5, 1)
    assert (found[16]["precision"], found[16]["recall"]) == (1, 0.5)
    assert (both["place"], both["objects"], both["found"]) == ("all", 24, 24)
    assert both["f1"] == pytest.approx(16 / 24, abs=1e-3)
    low, high = both["f1_interval"]
    assert low < both["f1"] < high
    assert f"F1 from {low:g} to {high:g} (95 %)" in str(Finetuned(crossed, card).lines())


def test_the_calibration_is_of_polygons_that_no_search_has_seen(crossed: Path, labelled: Labelled):
    card = yaml.safe_load((crossed / "card.yaml").read_text())
    # settings of its own would leave each fold without a wrong polygon, and nothing to learn from
    points = np.array(card["calibration"]["building"])
    faint, bright = np.interp([0.73, 1.0], *points.T)
    assert faint < 0.5 < 0.75 < bright
    theme = load_theme(crossed / "theme.yaml")
    assert (theme.classifier, theme.refiner) == (str(crossed), "none")
    result = survey(labelled.scene, theme, None, Bright(card=card)).run()
    assert result.summary.notes == ()
    assert np.allclose(result.features["score"], np.interp(result.features["score_raw"], *points.T))


def test_one_fold_alone_is_judged_on_its_own_search_and_says_so(
    labelled: Labelled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(settle, "MIN_OBJECTS_TO_SEARCH", 16)
    monkeypatch.setattr("hybridseg.search.GATES", {"agreement": (0.0,)})
    card = settled(tmp_path / "m", labelled, folds=1, refiner="none")
    assert card["scores"]["what"] == UNCROSSED
    assert "expect less elsewhere" in UNCROSSED
    assert [score["f1"] for score in card["scores"]["places"]] == [1, 1]
    assert card["calibration"] == {}
    assert "none: fewer than 10 polygons, or all right" in dict(Finetuned(tmp_path, card).lines())["calibrated"]


def test_few_objects_choose_no_settings(labelled: Labelled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(settle, "search_theme", None)
    monkeypatch.setattr(settle, "MIN_OBJECTS_TO_SEARCH", 25)
    start = load_theme("buildings")
    for more in ({}, {"searching": False}):
        card = settled(tmp_path / "m", labelled, **more)
        assert card["scores"]["what"] == UNSEARCHED
        theme = load_theme(tmp_path / "m" / "theme.yaml")
        assert (theme.objects, theme.gate, theme.prompts, theme.refiner) == (
            start.objects, start.gate, start.prompts, start.refiner,
        )  # fmt: skip
        monkeypatch.setattr(settle, "MIN_OBJECTS_TO_SEARCH", 1)


def test_folds_that_ask_for_different_refiners_leave_the_figures_of_one(
    labelled: Labelled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    names = iter(["none", "sam2-lite"])

    def search(theme: Theme, *_: object) -> tuple[Theme, str]:
        return theme.model_copy(update={"refiner": next(names)}), ""

    monkeypatch.setattr(settle, "search_theme", search)
    card = settled(tmp_path / "m", labelled)
    assert card["scores"]["what"] == HALF
    (fold, whole) = card["scores"]["places"]
    assert fold["objects"] == whole["objects"]
    refiner = load_theme(tmp_path / "m" / "theme.yaml").refiner
    assert refiner in ("none", "sam2-lite")
    for fingerprint in card["calibration_settings"].values():
        assert fingerprint == load_theme(tmp_path / "m" / "theme.yaml").score_fingerprint(refiner)


def test_no_object_on_validation_ground_gives_no_figures(labelled: Labelled, tmp_path: Path):
    ready = settle_on(tmp_path / "m", labelled)
    (split,) = ready.splits
    nowhere = replace(split, folds=tuple(np.zeros_like(fold) for fold in split.folds), objects=(0, 0))
    card = replace(ready, splits=[nowhere])(torch.nn.Linear(1, 1), CARD, [load_theme("buildings")], "")
    assert card["scores"]["places"] == []
    assert "no object lies in a validation block" in dict(Finetuned(tmp_path, card).lines())["scores"]
