"""The verb `demo`: a rendered town mapped, scored against its truth and drawn."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import pytest
from PIL import Image

from hybridseg.demo import Outcome, demo
from hybridseg.errors import OutputError, ThemeError
from hybridseg.write.result import read_result


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    folder = tmp_path_factory.mktemp("demo") / "new"
    return folder, demo(folder, size_px=320, refiner="none")


def test_writes_the_town_its_truth_the_map_and_the_picture(mapped: tuple[Path, Outcome]) -> None:
    folder, outcome = mapped
    files = {path.name for path in folder.iterdir()}
    assert {"town.tif", "town_truth.gpkg", "buildings.gpkg", "buildings.png"} <= files
    assert outcome.picture == folder / "buildings.png"
    with Image.open(outcome.picture) as picture:
        assert min(picture.size) > 300


def test_scores_are_those_of_the_written_map(mapped: tuple[Path, Outcome]) -> None:
    folder, outcome = mapped
    found, truth = read_result(folder / "buildings.gpkg"), gpd.read_file(folder / "town_truth.gpkg")
    area = found.union_all().intersection(truth.union_all()).area
    assert area / truth.area.sum() > 0.5
    scores = outcome.to_dict()["scores"]
    matched = round(scores["recall"] * len(truth))
    assert matched >= 3
    assert scores["precision"] == pytest.approx(matched / len(found))
    assert scores["f1"] == pytest.approx(2 * matched / (len(truth) + len(found)))
    assert f"F1 {scores['f1']:.2f}" in outcome.lines()[0][1]


@pytest.mark.parametrize("size_px", [0, -5])
def test_a_size_that_cannot_be_rendered_is_refused(size_px: int, tmp_path: Path) -> None:
    with pytest.raises(ThemeError, match=f"size_px >= 1.*got {size_px}"):
        demo(tmp_path / "demo", size_px=size_px)
    assert not (tmp_path / "demo").exists()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="name a folder"):
        demo(tmp_path / "file", size_px=32)
