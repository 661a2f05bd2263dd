"""How results look: one colour a class, in vectors (QGIS style) and rasters (palette)."""

from __future__ import annotations

import colorsys
import hashlib
from collections.abc import Sequence
from xml.etree import ElementTree as ET

PALETTE = {
    "building": "#d55e00",
    "field": "#f0e442",
    "water": "#0072b2",
    "solar": "#cc79a7",
    "road": "#e69f00",
}
"""Colour of a class or theme, singular. From Okabe & Ito (2008), told apart by colour-blind eyes too."""

FILL_ALPHA = 70
"""Opacity of a fill (0 to 255): the image shows through."""

_OTHER = "#999999"
_OUTLINE_MM = 0.46


def colour(name: str) -> str:
    """Hex colour of a class: the palette's (singular or plural), else one drawn from the name, always the same."""
    key = name.strip().lower()
    for known in (key, key.removesuffix("s")):
        if known in PALETTE:
            return PALETTE[known]
    hue = hashlib.sha256(key.encode()).digest()[0] / 256
    return "#" + "".join(f"{round(255 * part):02x}" for part in colorsys.hls_to_rgb(hue, 0.5, 0.75))


def color_table(classes: Sequence[str]) -> dict[int, tuple[int, int, int, int]]:
    """RGBA of each value of a class raster: 0 is none, transparent; class k has value k + 1."""
    return {0: (0, 0, 0, 0), **{k: (*_rgb(colour(name)), 255) for k, name in enumerate(classes, start=1)}}


def qml(classes: Sequence[str], field: str = "class") -> str:
    """QGIS layer style for features: a colour a class, solid outlines where refined, dashed where coarse.

    Rules, not categories, because the look hangs on two columns. Values that are no class given here show in grey.
    """
    root = ET.Element("qgis", version="3.28.0", styleCategories="Symbology")
    renderer = ET.SubElement(root, "renderer-v2", type="RuleRenderer", symbollevels="0", forceraster="0")
    rules = ET.SubElement(renderer, "rules", key="rules")
    symbols = ET.SubElement(renderer, "symbols")

    def add(label: str, expression: str, hex_colour: str, dashed: bool) -> None:
        name = str(len(symbols))
        ET.SubElement(rules, "rule", key=f"rule_{name}", filter=expression, symbol=name, label=label)
        symbols.append(_symbol(name, hex_colour, dashed))

    for class_ in classes:
        of_class = f"{_identifier(field)} = {_literal(class_)}"
        add(class_, f"{of_class} AND \"origin\" IS NOT 'coarse'", colour(class_), dashed=False)
        add(f"{class_} (coarse)", f"{of_class} AND \"origin\" = 'coarse'", colour(class_), dashed=True)
    add("other", "ELSE", _OTHER, dashed=False)
    ET.SubElement(root, "layerGeometryType").text = "2"  # Qgis::GeometryType::Polygon
    ET.indent(root)
    return f"<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n{ET.tostring(root, encoding='unicode')}\n"


def _symbol(name: str, hex_colour: str, dashed: bool) -> ET.Element:
    rgb = ",".join(map(str, _rgb(hex_colour)))
    options = {
        "color": f"{rgb},{FILL_ALPHA}",
        "style": "solid",
        "outline_color": f"{rgb},255",
        "outline_style": "dash" if dashed else "solid",
        "outline_width": str(_OUTLINE_MM),
        "outline_width_unit": "MM",
        "joinstyle": "bevel",
    }
    symbol = ET.Element("symbol", type="fill", name=name, alpha="1", clip_to_extent="1", force_rhr="0")
    layer = ET.SubElement(symbol, "layer", {"class": "SimpleFill", "enabled": "1", "locked": "0", "pass": "0"})
    table = ET.SubElement(layer, "Option", type="Map")
    for key, value in options.items():
        ET.SubElement(table, "Option", name=key, type="QString", value=value)
    return symbol


def _rgb(hex_colour: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(hex_colour.removeprefix("#"))
    return red, green, blue


def _identifier(name: str) -> str:
    """A column in a QGIS expression."""
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    """A string in a QGIS expression, as QgsExpression::quotedString does it."""
    escaped = text.replace("'", "''").replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")
    return f"'{escaped}'"
