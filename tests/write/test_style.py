from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from hybridseg.write.style import PALETTE, Kind, color_table, colour, qml

AWKWARD = ["building", "farm & <field>", "l'eau", 'say "hi"', "back\\slash", "水"]


def rules(xml: str) -> dict[str, ET.Element]:
    return {str(rule.get("filter")): rule for rule in ET.fromstring(xml).iter("rule")}


def outline(xml: str, expression: str) -> dict[str, str]:
    symbol = rules(xml)[expression].get("symbol")
    layer = ET.fromstring(xml).find(f".//symbol[@name='{symbol}']/layer[@class='SimpleFill']")
    assert layer is not None
    return {str(option.get("name")): str(option.get("value")) for option in layer.iter("Option") if option.get("name")}


def test_refined_is_solid_and_coarse_dashed_in_the_class_colour() -> None:
    xml = qml(["water"])
    refined = outline(xml, "\"class\" = 'water' AND \"origin\" IS NOT 'coarse'")
    coarse = outline(xml, "\"class\" = 'water' AND \"origin\" = 'coarse'")
    assert (refined["outline_style"], coarse["outline_style"]) == ("solid", "dash")
    assert refined["outline_color"] == coarse["outline_color"] == "0,114,178,255"
    red, green, blue, alpha = map(int, refined["color"].split(","))
    assert (red, green, blue) == (0, 114, 178)
    assert 0 < alpha < 255


def test_every_rule_has_its_symbol() -> None:
    root = ET.fromstring(qml(AWKWARD))
    used = [rule.get("symbol") for rule in root.iter("rule")]
    drawn = [symbol.get("name") for symbol in root.iter("symbol")]
    assert used == drawn
    assert len(set(used)) == len(used) == 2 * len(AWKWARD) + 1
    assert root.findtext("layerGeometryType") == "2"


def test_names_are_escaped() -> None:
    labels = [rule.get("label") for rule in ET.fromstring(qml(AWKWARD)).iter("rule")]
    assert set(AWKWARD) < set(labels)
    filters = " ".join(rules(qml(AWKWARD)))
    assert "'l''eau'" in filters
    assert r"'back\\slash'" in filters
    assert '"odd ""one"""' in " ".join(rules(qml(["a"], field='odd "one"')))


def test_no_classes_still_shows_features() -> None:
    assert list(rules(qml([]))) == ["ELSE"]


@pytest.mark.parametrize("name", AWKWARD)
def test_colours_are_hex_and_stable(name: str) -> None:
    assert re.fullmatch("#[0-9a-f]{6}", colour(name))
    assert colour(name) == colour(name)


def test_colours_of_themes_and_others() -> None:
    assert colour("Buildings") == colour("building") == PALETTE["building"]
    assert colour("greenhouse") == "#df205a"  # the same on every machine, in every process
    assert len(set(PALETTE.values())) == len(PALETTE)


def test_color_table() -> None:
    table = color_table(["water", "road"])
    assert table == {0: (0, 0, 0, 0), 1: (0, 114, 178, 255), 2: (230, 159, 0, 255)}


@pytest.mark.parametrize(
    ("kind", "number", "type_", "layer", "stroke"),
    [("lines", "1", "line", "SimpleLine", "line_color"), ("nodes", "0", "marker", "SimpleMarker", "outline_color")],
)
def test_lines_and_nodes_have_a_colour_a_class(kind: Kind, number: str, type_: str, layer: str, stroke: str) -> None:
    root = ET.fromstring(qml(["road", "water"], kind))
    assert root.findtext("layerGeometryType") == number
    assert [symbol.get("type") for symbol in root.iter("symbol")] == [type_] * 3
    assert [found.get("class") for found in root.findall(".//symbol/layer")] == [layer] * 3
    assert [str(rule.get("filter")) for rule in root.iter("rule")] == [
        "\"class\" = 'road'",
        "\"class\" = 'water'",
        "ELSE",
    ]
    colours = [str(option.get("value")) for option in root.iter("Option") if option.get("name") == stroke]
    assert colours == ["230,159,0,255", "0,114,178,255", "153,153,153,255"]


def test_a_layer_without_classes_is_called_by_its_kind() -> None:
    assert rules(qml([], "nodes"))["ELSE"].get("label") == "nodes"
    assert rules(qml(["road"], "lines"))["ELSE"].get("label") == "other"
