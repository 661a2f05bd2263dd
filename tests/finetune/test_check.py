"""Bad input is refused in a line or repaired with a warning, and nothing is left half written."""

from __future__ import annotations

import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import shapely

from hybridseg.cli import main
from hybridseg.errors import OutputError, ThemeError, WeightsError
from hybridseg.finetune.check import check_free, check_ground, check_gsd, check_numbers, check_refiners
from hybridseg.finetune.classes import as_typed, parse_classes
from hybridseg.finetune.folder import model_at
from hybridseg.finetune.labels import Ground, read_ground
from hybridseg.finetune.layers import LabelsWarning
from hybridseg.finetune.run import _run_folder
from hybridseg.finetune.split import Split, SplitBlocks
from hybridseg.nn.backbones import build_backbone
from hybridseg.read.source import Source
from hybridseg.theme import load_theme
from tests.finetune.test_ground import box, layer, source  # noqa: F401  (a fixture)
from tests.rasters import EAST, NORTH, utm_affine, write

BOW = shapely.Polygon([(EAST + x, NORTH - y) for x, y in [(10, 10), (40, 40), (40, 10), (10, 40)]])


@pytest.mark.parametrize(
    "given",
    [{"steps": 0}, {"batch": 0}, {"patience": -1}, {"rate": -1.0}, {"rate": float("nan")}, {"free": -1}, {"seed": -1},
     {"gsd_m": 0.0}, {"gsd_m": -1.0}, {"gsd_m": float("inf")}, {"validation": 1.0}],
)  # fmt: skip
def test_numbers_out_of_range_are_refused_by_name(given: dict[str, float]):
    (name,) = given
    with pytest.raises(ThemeError, match=f"--{name.replace('_', '-')} is .*; give "):
        check_numbers(**given)
    check_numbers(**{name: {"gsd_m": 0.3, "rate": None, "validation": 0.5}.get(name, 1)})


def test_what_depends_on_scene_backbone_or_refiner_is_checked_before_training(source: Source):  # noqa: F811
    check_gsd(0.1, [source])
    with pytest.raises(ThemeError, match=r"0\.09 is far finer than the 1 m"):
        check_gsd(0.09, [source])
    trunk = build_backbone("lite0")
    with pytest.raises(ThemeError, match="--head conv"):
        check_free(1, "linear", trunk)
    with pytest.raises(ThemeError, match="stages"):
        check_free(99, "conv", trunk)
    with pytest.raises(WeightsError, match="no backbone 'lite0:foo'"):
        build_backbone("lite0:foo")
    with pytest.raises(WeightsError, match="no model 'nope'"):
        check_refiners([load_theme("buildings")], "nope", "cpu")


@pytest.mark.parametrize(
    ("text", "message"), [("a=1,a=2,b=3", "each once"), ("a=1,b=1", "one value to two"), ("a=1", "each once")]
)
def test_classes_given_twice(text: str, message: str):
    with pytest.raises(ThemeError, match=message):
        parse_classes(text, ["a", "b"], "kind")


def test_codes_of_many_digits_stay_apart():
    assert as_typed(pd.Series([10000000, 10000001])).tolist() == ["10000000", "10000001"]
    assert as_typed(pd.Series([2.0, 2.5])).tolist() == ["2", "2.5"]
    assert as_typed(pd.Series(["nan", None], dtype=object)).isna().tolist() == [False, True]


def test_tables_lines_and_widths_are_refused(source: Source, tmp_path: Path):  # noqa: F811
    (tmp_path / "table.csv").write_text("a\n1\n")
    drawn = layer(tmp_path / "l.gpkg", [box(10, 10, 20, 10)], kind=["a"])
    line = layer(tmp_path / "w.gpkg", [shapely.LineString([(EAST + 10, NORTH - 20), (EAST + 60, NORTH - 20)])])
    calls = [
        (str(tmp_path / "table.csv"), {}, "no layer with geometry"),
        (drawn, {"complete_within": str(tmp_path / "table.csv")}, "no layer with geometry"),
        (drawn, {"complete_within": line}, "holds LineString; give polygons"),
        (line, {"width": "inf"}, "at most 200 m"),
        (line, {"width": "1e9"}, "at most 200 m"),
    ]
    for labels, more, message in calls:
        with pytest.raises(ThemeError, match=message):
            read_ground(source, labels, {"road": None}, 1.0, 32, **more)
    with pytest.raises(ThemeError, match="give --column; there are kind"):
        read_ground(source, drawn, {"road": "a"}, 1.0, 32)


@pytest.mark.parametrize(
    ("pixels", "more", "message"),
    [
        (np.ones((1, 96, 128), np.uint8), {"crs": None}, "no CRS"),
        (np.full((1, 96, 128), 0.5, np.float32), {}, "fractions"),
        (np.ones((1, 96, 128), np.complex64), {}, "complex64"),
        (np.ones((3, 96, 128), np.uint8), {}, "3 bands"),
        (np.zeros((1, 96, 128), np.uint8), {}, "centre of a valid pixel"),
    ],
)
def test_rasters_that_are_no_codes(source: Source, tmp_path: Path, pixels, more, message: str):  # noqa: F811
    path = write(tmp_path / "codes.tif", pixels, utm_affine(1.0), **more)
    with pytest.raises(ThemeError, match=message):
        read_ground(source, str(path), {"building": None}, 1.0, 32)


@pytest.mark.parametrize(
    ("extra", "kind", "message", "left"),
    [
        (box(10, 10, 20, 10), "a", "1 of 2 labels exact duplicates", 1),
        (BOW, "a", "1 of 2 rows .*invalid, repaired", 3),
        (None, "a", "1 of 2 rows .*without geometry", 1),
        (box(5000, 0, 9, 9), "a", "1 of 2 rows beside a.tif", 1),
        (box(50.6, 50.6, 0.1, 0.1), "a", "1 of 2 polygons cover no pixel", 2),
        (box(50, 50, 9, 9), None, "1 of 2 rows without a value in column kind", 1),
    ],
)
def test_what_is_repaired_or_left_out_is_said(source: Source, tmp_path: Path, extra, kind, message: str, left: int):  # noqa: F811
    drawn = layer(tmp_path / "l.gpkg", [box(10, 10, 20, 10), extra], kind=["a", kind])
    with pytest.warns(LabelsWarning, match=message):
        ground = read_ground(source, drawn, {"building": "a"}, 1.0, 32, column="kind")
    assert len(ground.truth) == left


def test_a_crossed_area_is_repaired(source: Source, tmp_path: Path):  # noqa: F811
    drawn = layer(tmp_path / "l.gpkg", [box(10, 10, 20, 10)])
    with pytest.warns(LabelsWarning, match="invalid, repaired"):
        ground = read_ground(
            source, drawn, {"a": None}, 1.0, 32, complete_within=layer(tmp_path / "w.gpkg", [BOW, box(5, 5, 30, 30)])
        )
    assert ground.known.is_valid


@pytest.fixture
def ground(source: Source, tmp_path: Path) -> Ground:  # noqa: F811
    return read_ground(source, layer(tmp_path / "l.gpkg", [box(10, 10, 20, 10)]), {"building": None}, 1.0, 32)


def test_a_class_with_one_side_only_is_named(ground: Ground):
    inside = ground.scene.objects["building"] > 0
    for train, message in ((inside, "building has no known ground beside"), (~inside, "all objects of building lie")):
        with pytest.raises(ThemeError, match=message):
            check_ground([ground], [Split(train, ~train, [])], ["building"])


def test_too_large_a_validation_share_is_named():
    objects = np.zeros((400, 400), int)
    objects[10:20, 10:20], objects[300:310, 300:310] = 1, 2
    with pytest.raises(ThemeError, match=r"--validation 0\.99 leaves nothing"):
        SplitBlocks(0.99)(objects, np.ones(objects.shape, bool))


def test_edited_labels_start_a_run_anew(ground: Ground, tmp_path: Path):
    first = _run_folder(tmp_path / "m", {"seed": 0}, [ground])
    assert _run_folder(tmp_path / "m", {"seed": 0}, [ground]) == first
    moved = {"building": np.roll(ground.scene.objects["building"], 1, axis=0)}
    edited = replace(ground, scene=replace(ground.scene, objects=moved))
    assert _run_folder(tmp_path / "m", {"seed": 0}, [edited]) != first


def _fail_in(out: Path) -> None:
    with model_at(out) as folder:
        (folder / "card.yaml").write_text("half")
        raise ThemeError("fails")


def test_a_model_folder_appears_whole_and_without_former_themes(tmp_path: Path):
    out = tmp_path / "m"
    with pytest.raises(ThemeError, match="fails"):
        _fail_in(out)
    assert not list(tmp_path.iterdir())
    for theme in ("theme.yaml", "theme-a.yaml"):
        with model_at(out) as folder:
            (folder / "card.yaml").write_text(theme)
            (folder / theme).write_text("")
        assert sorted(p.name for p in out.iterdir()) == ["card.yaml", theme]
    assert [p.name for p in tmp_path.iterdir()] == ["m"]
    with pytest.raises(OutputError, match="something else"), model_at(tmp_path):
        pass


def test_the_command_line_shows_warnings_of_labels_in_a_line(monkeypatch: pytest.MonkeyPatch, capsys):
    def verb(*_: object) -> int:
        warnings.simplefilter("default")
        warnings.warn("a.gpkg: 1 of 2 rows invalid, repaired", LabelsWarning, stacklevel=1)
        return 0

    monkeypatch.setitem(sys.modules["hybridseg.cli"].VERBS, "models", (main.__globals__["models"], verb))
    assert main(["models"]) == 0
    assert capsys.readouterr().err == "hybridseg: a.gpkg: 1 of 2 rows invalid, repaired\n"
