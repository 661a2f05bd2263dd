from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hybridseg.errors import ThemeError
from hybridseg.folders import configs_folder
from hybridseg.theme import Theme, load_theme

THEMES = sorted(path.stem for path in (configs_folder() / "themes").glob("*.yaml"))
MINIMAL = {"name": "mine", "label": "thing", "classifier": "mine-lite0"}


def write(folder: Path, value: object) -> Path:
    path = folder / "mine.yaml"
    path.write_text(value if isinstance(value, str) else yaml.safe_dump(value))
    return path


def leaves(settings: dict[str, Any], *at: str) -> Iterator[tuple[str, ...]]:
    """Path of every setting."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from leaves(value, *at, key)
        else:
            yield *at, key


def another(value: Any) -> Any:
    """A value that is allowed where this one is."""
    if isinstance(value, list):
        return value[1:]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1 if value < 8 else value - 1
    if isinstance(value, float):
        return value * 0.9
    return {"buildings": "none", "none": "buildings", "own": "shared"}.get(value, f"{value}x")


def test_there_are_themes():
    assert "buildings" in THEMES


@pytest.mark.parametrize("name", THEMES)
def test_every_theme_loads_under_its_own_name(name: str):
    theme = load_theme(name)
    assert theme.name == name
    assert theme == load_theme(configs_folder() / "themes" / f"{name}.yaml")


@pytest.mark.parametrize("name", THEMES)
def test_a_theme_written_and_read_is_the_same(name: str, tmp_path: Path):
    theme = load_theme(name)
    again = load_theme(write(tmp_path, theme.to_yaml()))
    assert again == theme
    assert again.fingerprint() == theme.fingerprint()


@pytest.mark.parametrize("path", list(leaves(load_theme("buildings").model_dump(mode="json"))), ids=".".join)
def test_the_fingerprint_changes_with_any_setting(path: tuple[str, ...]):
    theme = load_theme("buildings")
    settings = theme.model_dump(mode="json")
    part = settings
    for key in path[:-1]:
        part = part[key]
    unset = {"work_gsd_m": (0.2, 1.0), "max_gsd_m": 2.0, "by_bands": ["water-ndwi"], "scales": (1, 2), "looks": 8}
    if path[-1] == "kind":  # another kind has other settings
        settings[path[0]] = {"kind": {"objects": "regions", "shape": "rows"}[path[0]]}
    else:
        part[path[-1]] = unset.get(path[-1]) or another(part[path[-1]])
    assert Theme.model_validate(settings).fingerprint() != theme.fingerprint()


def test_the_fingerprint_is_the_same_in_every_process():
    # strings hash differently in each, and with them the order of a set
    ask = "from hybridseg.theme import load_theme; print(load_theme('buildings').fingerprint())"
    found = set()
    for seed in ("1", "2", "3"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", ask], env=environment, capture_output=True, text=True, check=True)
        found.add(done.stdout)
    assert found == {load_theme("buildings").fingerprint() + "\n"}


def test_the_fingerprint_does_not_depend_on_how_the_file_is_written(tmp_path: Path):
    spelled = write(tmp_path, load_theme("buildings").to_yaml() + "# a remark\n")
    assert load_theme(spelled).fingerprint() == load_theme("buildings").fingerprint()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"spam": 1}, "spam"),
        ({"prompts": {"spam": 1}}, r"prompts\.spam"),
        ({"objects": {"extent": 1.5}}, r"objects.*extent"),
        ({"gate": {"iou_pred": "much"}}, r"gate\.iou_pred"),
        ({"prompts": {"parts": ["box", "lines"]}}, r"prompts\.parts"),
        ({"shape": "round"}, "shape"),
        ({"shape": {"kind": 5}}, "shape"),
        ({"shape": ["rows"]}, "shape"),
        ({"shape": {"kind": "buildings", "allow_45": "perhaps"}}, r"shape\.buildings\.allow_45"),
        ({"objects": {"kind": "squares"}}, "objects"),
        ({"objects": {"kind": "regions", "peak": 0.3}}, r"objects\.regions\.peak"),
        ({"objects": [1, 2]}, "objects"),
        ({"objects": "instances"}, "objects"),
        ({"prompts": 3}, "prompts"),
        ({"gate": None}, "gate"),
        ({"name": ["a"]}, "name"),
        ({"name": ""}, "name"),
        ({"name": "../mine"}, "name"),
        ({"name": "my\nown"}, "name"),
        ({"label": 7}, "label"),
        ({"label": ""}, "label"),
        ({"classifier": ""}, "classifier"),
        ({"work_gsd_m": [0, 1]}, r"work_gsd_m\.0"),
        ({"work_gsd_m": [-1, 1]}, r"work_gsd_m\.0"),
        ({"work_gsd_m": [1e-9, 1]}, r"work_gsd_m\.0"),
        ({"work_gsd_m": [0.5, float("inf")]}, r"work_gsd_m\.1"),
        ({"work_gsd_m": [float("nan"), 1]}, r"work_gsd_m\.0"),
        ({"work_gsd_m": [2, 1]}, r"work_gsd_m is \[2.0, 1.0\]; give the finest first"),
        ({"work_gsd_m": [1]}, "work_gsd_m"),
        ({"work_gsd_m": 1}, "work_gsd_m"),
        ({"work_gsd_m": "fine"}, "work_gsd_m"),
        ({"max_gsd_m": 0}, "max_gsd_m"),
        ({"max_gsd_m": float("inf")}, "max_gsd_m"),
        ({"objects": {"min_area_m2": float("inf")}}, r"objects\.instances\.min_area_m2"),
        ({"objects": {"max_object_m": 0}}, r"objects\.instances\.max_object_m"),
        ({"prompts": {"span": 0.0}}, r"prompts\.span"),
        ({"two\nlines": 1}, "two lines"),
        ({"long" * 500: 1}, "longlong"),
        ({5: 1}, "5"),
    ],
)
def test_what_is_not_allowed_is_named_in_one_line(settings: dict[str, Any], said: str, tmp_path: Path):
    with pytest.raises(ThemeError, match=said) as error:
        load_theme(write(tmp_path, MINIMAL | settings))
    assert "\n" not in str(error.value)
    assert "mine.yaml" in str(error.value)
    assert len(str(error.value)) < 500 + len(str(tmp_path))


@pytest.mark.parametrize("settings", [{"shape": "rows"}, {"shape": {"kind": "rows"}}, {"shape": "none"}])
def test_a_shape_may_be_given_by_its_kind_alone(settings: dict[str, Any], tmp_path: Path):
    shape = load_theme(write(tmp_path, MINIMAL | settings)).shape
    assert shape.kind == (settings["shape"] if isinstance(settings["shape"], str) else settings["shape"]["kind"])


def test_one_gsd_may_be_the_finest_and_the_coarsest(tmp_path: Path):
    theme = load_theme(write(tmp_path, MINIMAL | {"work_gsd_m": [2, 2]}))
    assert [theme.gsd_m(source, 0.25) for source in (0.1, 2.0, 30.0)] == [2.0, 2.0, 2.0]
    assert load_theme(write(tmp_path, MINIMAL)).gsd_m(0.1, 0.25) == 0.25
    between = load_theme(write(tmp_path, MINIMAL | {"work_gsd_m": [1, 5]}))
    assert [between.gsd_m(source, 0.25) for source in (0.1, 2.0, 30.0)] == [1.0, 2.0, 5.0]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        ("just text", "holds no settings"),
        ("[1, 2]", "holds no settings"),
        ("a: [", "is not YAML"),
        ("name: 2026-13-45", "is not YAML"),
        ("\0\1\2", "is not YAML"),
        ("[" * 5000, "is not YAML"),
        ("a: " + "[" * 2000 + "]" * 2000, "is not YAML"),
        ("a: &a [*a, *b]", "is not YAML"),
        ("? [1, 2]\n: 3", "is not YAML"),
        ("name: &a [*a]", "holds itself"),
        ("name: &a {b: *a}", "holds itself"),
    ],
    ids=[
        "empty",
        "text",
        "list",
        "no YAML",
        "no date",
        "binary",
        "deep",
        "deep and closed",
        "no anchor",
        "no key",
        "itself",
        "itself again",
    ],
)
def test_a_file_that_is_no_theme_gives_one_line(content: str, said: str, tmp_path: Path):
    with pytest.raises(ThemeError, match=rf"mine\.yaml {said}") as error:
        load_theme(write(tmp_path, content))
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_text_gives_one_line(tmp_path: Path):
    (tmp_path / "mine.yaml").write_bytes(b"\xff\xfe\x80\x81")
    with pytest.raises(ThemeError, match=r"mine\.yaml") as error:
        load_theme(tmp_path / "mine.yaml")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("key", MINIMAL)
def test_half_a_character_is_refused_in_one_line(key: str, tmp_path: Path):
    lines = [f'{name}: "{value}\\ud83d"' if name == key else f"{name}: {value}" for name, value in MINIMAL.items()]
    with pytest.raises(ThemeError, match=r"mine\.yaml holds text that is no Unicode") as error:
        load_theme(write(tmp_path, "\n".join(lines)))
    assert "\n" not in str(error.value)
    str(error.value).encode()


def test_a_missing_setting_is_named(tmp_path: Path):
    with pytest.raises(ThemeError, match="classifier"):
        load_theme(write(tmp_path, {key: value for key, value in MINIMAL.items() if key != "classifier"}))


@pytest.mark.parametrize("name", ["volcanoes", "nowhere/mine.yaml"])
def test_an_unknown_theme_lists_those_there_are(name: str):
    with pytest.raises(ThemeError, match="buildings") as error:
        load_theme(name)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_prompt_settings_are_changed_in_a_copy():
    theme = load_theme("buildings")
    bare = theme.with_prompts(parts=frozenset({"box"}))
    assert bare.prompts.parts == {"box"}
    assert theme.prompts.parts == {"box", "points", "hint"}
    assert bare.gate == theme.gate


def test_scales_end_where_the_theme_does() -> None:
    roads = load_theme("roads").model_copy(update={"scales": (1, 2), "work_gsd_m": (0.3, 1.2)})
    assert roads.scales_at(0.3) == roads.scales_at(0.62) == (1, 2)
    assert roads.scales_at(1.0) == (1,)
    assert roads.model_copy(update={"work_gsd_m": None}).scales_at(1.0) == (1, 2)


def test_the_shape_is_the_themes_own_where_it_is_what_was_asked_for() -> None:
    kinds = {
        ("buildings", "regular"): "buildings", ("buildings", "smooth"): "smooth", ("buildings", "traced"): "none",
        ("solar", "regular"): "rows", ("fields", "smooth"): "coverage", ("roads", "smooth"): "lines",
        ("water", "traced"): "none",
    }  # fmt: skip
    for (name, how), kind in kinds.items():
        assert load_theme(name).shaped(how).shape.kind == kind
