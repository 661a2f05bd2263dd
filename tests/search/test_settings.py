"""The search for a theme's settings, with doubles for the networks."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybridseg.labels.labelled import Labelled
from hybridseg.search import search_theme
from hybridseg.theme import Theme, load_theme
from tests.doubles import Bright, Threshold
from tests.faint import place


@pytest.fixture(autouse=True)
def networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hybridseg.nn.models.load_classifier", lambda *_: Bright())
    monkeypatch.setattr("hybridseg.nn.models.load_refiner", lambda *_, **__: Threshold())


def buildings(folder: Path, *rows: str) -> Labelled:
    return place(folder, rows).of_class("building")


def keeps_faint(theme: Theme) -> bool:
    return theme.objects.min_score < 0.72 and theme.objects.extent < 0.72


def test_an_object_of_a_small_scene_weighs_as_one_of_a_large_scene(tmp_path: Path):
    # the mean over scenes would keep the faint: F1 of 1 and 0.8 then, of 0 and 1 without them
    small, large = (
        buildings(tmp_path / "s", "f.", ".."),
        buildings(tmp_path / "l", "bbbbbb", "x.x.x.", "bbbbbb", "xxx..."),
    )
    start = load_theme("buildings")
    alone, _ = search_theme(start, [small], "none")
    assert keeps_faint(alone)
    both, _ = search_theme(start, [small, large], "none")
    assert not keeps_faint(both)
