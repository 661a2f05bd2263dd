"""A calibration holds for the settings that it was fitted with, and for its class alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely

from hybridseg.nn.cards import model_folder, read_card
from hybridseg.run.result import calibrated
from hybridseg.theme import Theme, load_theme
from hybridseg.where.gate import Gate
from tests.doubles import Bright, Threshold, survey

THEME = load_theme("buildings")
TABLE = [[0.0, 0.1], [1.0, 0.6]]


def card(theme: Theme = THEME, refiner: str = "threshold", label: str = "building") -> dict[str, Any]:
    return {"calibration": {label: TABLE}, "calibration_settings": {label: theme.score_fingerprint(refiner)}}


def test_scores_become_chances_under_the_settings_of_the_calibration(blocks: Path):
    raw = survey(blocks, THEME).run()
    result = survey(blocks, THEME, network=Bright(card=card())).run()
    assert result.features["score_raw"].tolist() == raw.features["score"].tolist()
    assert np.allclose(result.features["score"], 0.1 + 0.5 * raw.features["score"])
    assert result.summary.notes == raw.summary.notes == ()


@pytest.mark.parametrize(
    ("theme", "refiner"),
    [
        (THEME, None),
        (THEME, Threshold(name="other")),
        (THEME.with_prompts(parts=frozenset({"hint"})), Threshold()),
        (THEME.model_copy(update={"gate": Gate(iou_pred=0.123)}), Threshold()),
        (THEME.model_copy(update={"objects": THEME.objects.model_copy(update={"min_score": 0.123})}), Threshold()),
    ],
    ids=["no refiner", "another refiner", "prompts", "gate", "objects"],
)
def test_under_other_settings_scores_stay_and_the_summary_says_so(
    blocks: Path, theme: Theme, refiner: Threshold | None
):
    raw = survey(blocks, theme, refiner).run()
    result = survey(blocks, theme, refiner, network=Bright(card=card())).run()
    assert "score_raw" not in result.features
    assert result.features["score"].tolist() == raw.features["score"].tolist()
    (note,) = result.summary.notes
    assert note == "scores of building are the classifier's own: its calibration was fitted with other settings"
    assert ("note", note) in result.summary.lines()


def test_a_card_without_settings_calibrates_nothing(blocks: Path):
    result = survey(blocks, THEME, network=Bright(card={"calibration": {"building": TABLE}})).run()
    assert "score_raw" not in result.features
    assert len(result.summary.notes) == 1


def test_shape_does_not_matter_to_a_calibration():
    assert THEME.model_copy(update={"shape": load_theme("roads").shape}).score_fingerprint(
        "r"
    ) == THEME.score_fingerprint("r")


def test_the_table_is_of_its_class_alone():
    features = gpd.GeoDataFrame({"class": ["building"], "score": [0.5]}, geometry=[shapely.Point(0, 0)])
    assert calibrated(features, THEME, "threshold", card())[0]["score"].tolist() == [0.35]
    same, notes = calibrated(features, THEME, "threshold", card(label="road"))
    assert same["score"].tolist() == [0.5]
    assert notes == []


@pytest.mark.parametrize("name", ["buildings", "fields"])
def test_the_calibration_that_ships_holds_for_the_theme_that_ships(name: str):
    theme = load_theme(name)
    own = read_card(model_folder(theme.classifier))
    assert own["calibration_settings"][theme.label] == theme.score_fingerprint(theme.refiner), (
        "the theme changed: run `python -m benchmarks.calibration ../shared/data` anew"
    )
