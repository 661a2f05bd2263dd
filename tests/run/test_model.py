from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import yaml

from hybridseg.errors import ThemeError
from hybridseg.nn.classify.segmenter import Segmenter
from hybridseg.nn.weights import save_weights
from hybridseg.run.extract import extract
from hybridseg.run.model import calibrated, calibration_of
from tests.rasters import make


def test_scores_are_calibrated_class_by_class_and_without_a_table_they_stay():
    features = gpd.GeoDataFrame({"class": ["a", "b"], "score": [0.25, 0.5]}, geometry=gpd.GeoSeries([None, None]))
    assert calibrated(features, calibration_of({}))["score"].tolist() == [0.25, 0.5]
    table = calibration_of({"calibration": {"a": [[0, 0.1], [1, 0.5]]}})
    np.testing.assert_allclose(calibrated(features, table)["score"], [0.2, 0.5])


def test_a_class_that_the_classifier_does_not_know_is_refused(tmp_path: Path):
    card = {"classes": ["water", "road"], "gsd_m": 0.25, "gsd_range_m": [0.05, 0.6]}
    save_weights(Segmenter(classes=2), tmp_path / "model", card)
    theme = {"name": "mine", "label": "house", "classifier": ".", "refiner": "none"}
    (tmp_path / "model" / "theme.yaml").write_text(yaml.safe_dump(theme))
    with pytest.raises(ThemeError, match=r"mine looks for house, .*model knows water, road; give") as error:
        extract(make("utm", tmp_path), tmp_path / "out.gpkg", model=tmp_path / "model", device="cpu")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out.gpkg").exists()
