"""Bad input is refused in a line or repaired with a warning, and nothing is left half written."""

from __future__ import annotations

import os
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hybridseg.cli import VERBS, main
from hybridseg.errors import HybridsegError, OutputError, ThemeError, WeightsError
from hybridseg.finetuning.check import check_free, check_ground, check_gsd, check_numbers, check_refiners
from hybridseg.finetuning.model import model_at
from hybridseg.finetuning.run import _run_folder
from hybridseg.labels.labelled import LabelledGrid, on_grid, read_labelled
from hybridseg.labels.layers import LabelsWarning
from hybridseg.labels.split import Split
from hybridseg.nn.backbones import build_backbone
from hybridseg.read.scene import Scene
from hybridseg.theme import load_theme
from tests.labels.drawn import box, layer


@pytest.mark.parametrize(
    "given",
    [{"steps": 0}, {"batch": 0}, {"patience": -1}, {"rate": -1.0}, {"rate": float("nan")}, {"free": -1}, {"seed": -1},
     {"validation": 1.0}],
)  # fmt: skip
def test_numbers_out_of_range_are_refused_by_name(given: dict[str, float]):
    (name,) = given
    with pytest.raises(ThemeError, match=f"--{name.replace('_', '-')} is .*; give "):
        check_numbers(**given)
    check_numbers(**{name: {"rate": None, "validation": 0.5}.get(name, 1)})


def test_what_depends_on_scene_backbone_or_refiner_is_checked_before_training(scene: Scene):
    check_gsd(0.1, [scene], "lite0")
    check_gsd(None, [scene], "lite0")
    for gsd_m in (0.09, 0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(HybridsegError, match=r"--gsd is .* has pixels of 1 m; give 0\.1 to 100000 metres"):
            check_gsd(gsd_m, [scene], "lite0")
    trunk = build_backbone("lite0")
    with pytest.raises(ThemeError, match="--head conv"):
        check_free(1, "linear", trunk)
    with pytest.raises(ThemeError, match="stages"):
        check_free(99, "conv", trunk)
    with pytest.raises(WeightsError, match="no backbone 'lite0:foo'"):
        build_backbone("lite0:foo")
    with pytest.raises(WeightsError, match="no model 'nope'"):
        check_refiners([load_theme("buildings")], "nope", "cpu")


@pytest.fixture
def grid(scene: Scene, tmp_path: Path) -> LabelledGrid:
    labelled = read_labelled(scene, layer(tmp_path / "l.gpkg", [box(10, 10, 20, 10)]), {"building": None})
    return on_grid(labelled, ["building"], 1.0, 32)


def test_a_class_with_one_side_only_is_named(grid: LabelledGrid):
    inside = grid.image.objects["building"] > 0
    for train, message in ((inside, "building has no known ground beside"), (~inside, "all objects of building lie")):
        with pytest.raises(ThemeError, match=message):
            check_ground([grid], [Split(train, (~train,), (1,))], ["building"])


def test_edited_labels_start_a_run_anew(grid: LabelledGrid, tmp_path: Path):
    first = _run_folder(tmp_path / "m", {"seed": 0}, [grid])
    assert _run_folder(tmp_path / "m", {"seed": 0}, [grid]) == first
    moved = {"building": np.roll(grid.image.objects["building"], 1, axis=0)}
    edited = replace(grid, image=replace(grid.image, objects=moved))
    assert _run_folder(tmp_path / "m", {"seed": 0}, [edited]) != first


def test_what_a_killed_run_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with model_at(tmp_path / "m") as folder:
        abandoned = folder.with_name(folder.name + "x")
        abandoned.mkdir()
        for one in (folder, abandoned):  # both are old; one is in use
            os.utime(one, (0, 0))
        monkeypatch.setattr("hybridseg.folders._LOOKED", {})
        with model_at(tmp_path / "n") as other:
            (other / "card.yaml").write_text("new")
        assert not abandoned.exists()
        assert folder.exists()


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
    (tmp_path / "plain").mkdir()
    assert out.stat().st_mode == (tmp_path / "plain").stat().st_mode
    (out / "card.yaml").chmod(0o640)
    with model_at(out) as folder:
        (folder / "card.yaml").write_text("private")
    assert (out / "card.yaml").stat().st_mode & 0o777 == 0o640
    with pytest.raises(OutputError, match="something else"), model_at(tmp_path):
        pass


def test_the_command_line_shows_warnings_of_labels_in_a_line(monkeypatch: pytest.MonkeyPatch, capsys):
    def verb(*_: object) -> int:
        warnings.simplefilter("default")
        warnings.warn("a.gpkg: 1 of 2 rows invalid, repaired", LabelsWarning, stacklevel=1)
        return 0

    monkeypatch.setitem(VERBS, "models", replace(VERBS["models"], show=verb))
    assert main(["models"]) == 0
    assert capsys.readouterr().err == "hybridseg: a.gpkg: 1 of 2 rows invalid, repaired\n"
