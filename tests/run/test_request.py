from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
import yaml

from hybridseg.errors import HybridsegError, OutputError, ThemeError, WeightsError
from hybridseg.nn.sam2.official import at_hand
from hybridseg.run.request import (
    check_crs,
    in_crs,
    parse_bands,
    parse_extent,
    parse_numbers,
    words,
)
from hybridseg.run.themes import resolve_themes, themes_in
from hybridseg.theme import load_theme


def refusal(error: pytest.ExceptionInfo[BaseException]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


# --- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["1,2,3,4", " 1, 2 ,3,4e0", (1, 2, 3, 4), [1.0, 2, 3, 4], np.array([1, 2, 3, 4])])
def test_an_extent_is_four_numbers(value: object):
    assert parse_extent(value) == (1.0, 2.0, 3.0, 4.0)  # type: ignore[arg-type]


def test_western_and_southern_extents_are_numbers_too():
    assert parse_extent("-71.2,-42.1,-71.1,-42") == (-71.2, -42.1, -71.1, -42.0)
    assert parse_extent(None) is None


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("1,2,3", "extent has 3 numbers, not 4"),
        ("1,2,3,4,5", "extent has 5 numbers"),
        ("a,b,c,d", "extent is 'a,b,c,d'"),
        ("", "extent is ''"),
        ("1,2,,4", "extent is '1,2,,4'"),
        ("nan,nan,nan,nan", "nan"),
        ("-inf,-inf,inf,inf", "inf"),
        ("3,2,1,4", "extent 3,2,1,4 is empty"),
        ("1,4,3,2", "is empty"),
        ("1,2,1,4", "is empty"),
        (5, "extent is 5"),
        ([None] * 4, "extent is"),
    ],
)
def test_an_extent_that_is_none_is_refused(value: object, said: str):
    with pytest.raises(HybridsegError, match=said) as error:
        parse_extent(value)  # type: ignore[arg-type]
    refusal(error)


@pytest.mark.parametrize("value", ["4,3,2", [4, 3, 2], (4.0, 3.0, 2.0), np.array([4, 3, 2])])
def test_bands_are_whole_numbers(value: object):
    bands = parse_bands(value)  # type: ignore[arg-type]
    assert bands == [4, 3, 2]
    assert all(type(band) is int for band in bands)
    assert parse_bands("1") == [1]
    assert parse_bands(None) is None


@pytest.mark.parametrize("value", ["red,green", "1.5,2,3", "nan", "inf", "", ",", [1, "a"], 3])
def test_bands_that_are_none_are_refused(value: object):
    with pytest.raises(HybridsegError, match="source_bands is") as error:
        parse_numbers(value, "source_bands")  # type: ignore[arg-type]
    assert "give" in refusal(error)


# --- themes -----------------------------------------------------------------------------------------------------------


def test_words_are_split_at_commas_but_a_path_is_one():
    assert words("a, b,c ") == ["a", "b", "c"]
    assert words(Path("a,b.yaml")) == ["a,b.yaml"]
    assert words(["a,b", Path("c")]) == ["a,b", "c"]
    assert words(None) == []
    assert words("") == [""]


def test_without_a_word_buildings_are_looked_for():
    assert resolve_themes(None, None) == [load_theme("buildings")]


def test_several_themes_come_in_order():
    for given in ("water,roads", ["water", "roads"], "water , roads"):
        assert [theme.name for theme in resolve_themes(given, None)] == ["water", "roads"]


def test_a_file_is_a_theme(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text(load_theme("buildings").model_copy(update={"name": "mine"}).to_yaml())
    assert [theme.name for theme in resolve_themes(path, None)] == ["mine"]
    assert [theme.name for theme in resolve_themes(f"{path},water", None)] == ["mine", "water"]


@pytest.mark.parametrize("given", ["buildings,buildings", "", "water,", ",", ["water", "water"]])
def test_names_that_are_empty_or_doubled_are_refused(given: object):
    with pytest.raises(ThemeError, match="each once") as error:
        resolve_themes(given, None)  # type: ignore[arg-type]
    refusal(error)


def test_themes_of_one_name_from_two_files_are_refused(tmp_path: Path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text(load_theme("buildings").to_yaml())
    with pytest.raises(ThemeError, match="buildings, buildings share a name") as error:
        resolve_themes([str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")], None)
    refusal(error)


@pytest.mark.parametrize("parts", ["box,hint", ["hint", "box"], " hint , box"])
def test_the_parts_of_prompts_are_chosen_for_all_themes(parts: object):
    for theme in resolve_themes("buildings,water", None, parts):  # type: ignore[arg-type]
        assert theme.prompts.parts == {"box", "hint"}
        assert theme.gate == load_theme(theme.name).gate


@pytest.mark.parametrize("parts", ["", "lines", "box,lines", [], "box,"])
def test_parts_that_are_none_are_refused(parts: object):
    with pytest.raises(ThemeError, match="give some of box,points,hint") as error:
        resolve_themes(None, None, parts)  # type: ignore[arg-type]
    refusal(error)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model folder with two themes, as far as themes are concerned."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights.safetensors").touch()
    for name in ("mine", "yours"):
        theme = load_theme("buildings").model_copy(update={"name": name, "classifier": "elsewhere"})
        (folder / f"theme-{name}.yaml").write_text(theme.to_yaml())
    return folder


def test_a_model_brings_its_own_themes(model: Path):
    found = themes_in(model)
    assert [theme.name for theme in found] == ["mine", "yours"]
    assert {theme.classifier for theme in found} == {str(model)}
    assert resolve_themes(None, model) == found
    assert resolve_themes(None, str(model), "box")[0].prompts.parts == {"box"}


def test_a_theme_may_look_with_a_model(model: Path):
    (theme,) = resolve_themes("water", model)
    assert theme == load_theme("water").model_copy(update={"classifier": str(model)})


def test_a_model_that_was_moved_looks_with_its_own_weights(model: Path, tmp_path: Path):
    moved = model.rename(tmp_path / "moved")
    assert {theme.classifier for theme in themes_in(moved)} == {str(moved)}


def test_what_is_no_model_or_has_no_theme_is_refused(model: Path, tmp_path: Path):
    with pytest.raises(WeightsError, match="no model") as error:
        resolve_themes(None, tmp_path / "gone")
    refusal(error)
    for path in model.glob("*.yaml"):
        path.unlink()
    with pytest.raises(ThemeError, match=r"holds no theme\.yaml; give --theme") as error:
        resolve_themes(None, model)
    refusal(error)


def test_a_damaged_theme_of_a_model_is_refused(model: Path):
    (model / "theme-mine.yaml").write_text(yaml.safe_dump({"name": "mine"}))
    with pytest.raises(ThemeError, match=r"theme-mine\.yaml: label") as error:
        resolve_themes(None, model)
    refusal(error)


# --- CRS --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("crs", ["EPSG:4326", "4326", "OGC:CRS84", "+proj=utm +zone=33"])
def test_a_crs_that_there_is_is_taken(crs: str):
    check_crs(crs, "map.gpkg")
    check_crs(crs, None)
    check_crs(None, "map.tif")


@pytest.mark.parametrize("crs", ["EPSG:0", "somewhere", "", "EPSG:999999"])
def test_a_crs_that_there_is_not_is_refused(crs: str):
    with pytest.raises(OutputError, match=f"the CRS '{crs}' is unknown; give an EPSG code") as error:
        check_crs(crs, "map.gpkg")
    refusal(error)


@pytest.mark.parametrize(("crs", "kind"), [("EPSG:5773", "Vertical CRS"), ("EPSG:4978", "Geocentric CRS")])
def test_a_crs_that_is_no_maps_is_refused(crs: str, kind: str):
    with pytest.raises(OutputError, match=f"the CRS '{crs}' is a {kind}, not one of a map") as error:
        check_crs(crs, "map.gpkg")
    refusal(error)


@pytest.mark.parametrize("out", ["map.tif", Path("map.TIFF")])
def test_a_class_raster_keeps_the_scenes_crs(out: str | Path):
    with pytest.raises(OutputError, match="keeps the scene's grid; leave out --crs") as error:
        check_crs("EPSG:4326", out)
    refusal(error)


def test_a_result_is_brought_to_a_crs_that_reaches_there():
    layer = gpd.GeoDataFrame({"id": ["a"]}, geometry=[shapely.box(5e5, 5e6, 5e5 + 9, 5e6 + 9)], crs="EPSG:32633")
    assert in_crs(layer, None) is layer
    moved = in_crs(layer, "EPSG:4326")
    assert moved.crs == "EPSG:4326"
    assert moved.total_bounds == pytest.approx([15, 45.15, 15.0001, 45.1501], abs=1e-2)
    assert in_crs(layer[:0], "EPSG:4326").crs == "EPSG:4326"
    pole = layer.set_geometry([shapely.box(0, -90, 1, -89)]).set_crs(4326, allow_override=True)
    with pytest.raises(OutputError, match="does not reach there; choose another --crs") as error:
        in_crs(pole, "EPSG:2154")
    refusal(error)


@pytest.mark.parametrize("refiner", ["sam2.1-hiera-tiny", "edgetam", "hf:owner/name"])
def test_a_folder_alone_fetches_no_refiner(refiner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "torch"))
    (tmp_path / "model").mkdir()
    for name in ("weights.safetensors", "card.yaml"):
        (tmp_path / "model" / name).write_text("")
    theme = load_theme("buildings").model_copy(update={"classifier": ".", "refiner": refiner})
    (tmp_path / "model" / "theme.yaml").write_text(theme.to_yaml())
    with pytest.raises(ThemeError, match=f"names refiner {refiner}, which would be fetched") as error:
        resolve_themes(None, tmp_path / "model")
    refusal(error)
    (asked,) = resolve_themes(None, tmp_path / "model", refiner=refiner)
    assert asked.refiner == refiner
    (other,) = resolve_themes(None, tmp_path / "model", refiner="sam2-lite")
    assert other.refiner == "sam2-lite"


def test_a_refiner_that_was_fetched_before_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "edgetam.pt").write_text("")
    assert at_hand("edgetam")
    assert at_hand("sam2-lite")
