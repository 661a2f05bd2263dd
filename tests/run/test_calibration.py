from __future__ import annotations

from typing import Any

import geopandas as gpd
import pytest
import shapely

from hybridseg.run.calibration import calibrated
from hybridseg.shape import AsTraced
from hybridseg.theme import Theme, load_theme
from hybridseg.where.gate import Gate

THEME = load_theme("buildings")
POINTS = [[0.2, 0.1], [0.6, 0.5], [0.8, 0.9]]


def features(*scores: float) -> gpd.GeoDataFrame:
    boxes = [shapely.box(k, 0, k + 1, 1) for k in range(len(scores))]
    return gpd.GeoDataFrame({"score": list(scores), "class": "building"}, geometry=boxes, crs="EPSG:32645")


def card(theme: Theme = THEME, refiner: str = "sam2-lite", label: str = "building") -> dict[str, Any]:
    return {"calibration": {label: POINTS}, "calibration_settings": {label: theme.score_fingerprint(refiner)}}


def test_a_table_that_was_fitted_with_these_settings_makes_scores_chances() -> None:
    made, notes = calibrated(features(0.2, 0.4, 0.7), THEME, "sam2-lite", card())
    assert made["score"].tolist() == pytest.approx([0.1, 0.3, 0.7])
    assert made["score_raw"].tolist() == [0.2, 0.4, 0.7]
    assert notes == []


def test_beyond_the_table_its_ends_hold() -> None:
    assert calibrated(features(0.0, 1.0), THEME, "sam2-lite", card())[0]["score"].tolist() == pytest.approx([0.1, 0.9])


def test_a_table_of_one_point_is_a_table() -> None:
    one = card() | {"calibration": {"building": [[0.5, 0.7]]}}
    assert calibrated(features(0.1, 0.9), THEME, "sam2-lite", one)[0]["score"].tolist() == [0.7, 0.7]


def test_no_features_are_calibrated_too() -> None:
    made, notes = calibrated(features(), THEME, "sam2-lite", card())
    assert {"score", "score_raw"} <= set(made.columns)
    assert notes == []


def test_without_a_table_scores_stay_and_nothing_is_said() -> None:
    for without in ({}, card(label="water"), {"calibration": {}}):
        given = features(0.2, 0.4)
        made, notes = calibrated(given, THEME, "sam2-lite", without)
        assert made is given
        assert notes == []


def changed(**changes: Any) -> Theme:
    return THEME.model_copy(update=changes)


@pytest.mark.parametrize(
    ("theme", "refiner"),
    [
        (THEME, "none"),
        (THEME, "sam2.1-hiera-tiny"),
        (changed(gate=Gate(iou_pred=0.9)), "sam2-lite"),
        (changed(objects=THEME.objects.model_copy(update={"min_score": 0.1})), "sam2-lite"),
        (THEME.with_prompts(negatives=0), "sam2-lite"),
        (changed(work_gsd_m=(1.0, 2.0)), "sam2-lite"),
    ],
    ids=["no refiner", "another refiner", "gate", "objects", "prompts", "gsd"],
)
def test_with_other_settings_scores_stay_and_a_note_says_so(theme: Theme, refiner: str) -> None:
    given = features(0.2, 0.4)
    made, notes = calibrated(given, theme, refiner, card())
    assert made["score"].tolist() == [0.2, 0.4]
    assert "score_raw" not in made
    (note,) = notes
    assert "building" in note
    assert "other settings" in note
    # a card from before the settings were written down
    assert calibrated(given, THEME, "sam2-lite", {"calibration": card()["calibration"]})[1] == notes


def test_settings_that_leave_the_objects_alone_do_not_matter() -> None:
    for theme in (changed(name="mine", classifier="copy"), changed(shape=AsTraced()), changed(max_gsd_m=5.0)):
        assert "score_raw" in calibrated(features(0.2), theme, "sam2-lite", card())[0]
