"""How results look: one colour a class, in vectors (QGIS style) and rasters (palette)."""

from __future__ import annotations

import colorsys
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Literal
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

Kind = Literal["polygons", "lines", "nodes"]
"""What a layer holds."""

_OTHER = "#999999"
_OUTLINE_MM = 0.46
_LINE_MM = 0.86
_NODE_MM = 1.6
_GEOMETRY_TYPE: dict[Kind, str] = {"nodes": "0", "lines": "1", "polygons": "2"}
"""Numbers of Qgis::GeometryType."""


def colour(name: str) -> str:
    """Return the hex colour of a class: the palette's (singular or plural), else one that depends on the name only."""
    key = name.strip().lower()
    for known in (key, key.removesuffix("s")):
        if known in PALETTE:
            return PALETTE[known]
    hue = hashlib.sha256(key.encode()).digest()[0] / 256
    return "#" + "".join(f"{round(255 * part):02x}" for part in colorsys.hls_to_rgb(hue, 0.5, 0.75))


def color_table(classes: Sequence[str]) -> dict[int, tuple[int, int, int, int]]:
    """Return RGBA of each value of a class raster: 0 is none, transparent; class k has value k + 1."""
    return {0: (0, 0, 0, 0), **{k: (*_rgb(colour(name)), 255) for k, name in enumerate(classes, start=1)}}


def qml(
    classes: Sequence[str],
    kind: Kind = "polygons",
    field: str = "class",
    colours: Mapping[str, str] | None = None,
    between: tuple[str, str] | None = None,
) -> str:
    """Return a QGIS layer style: a colour a class; polygons have solid outlines where refined, dashed where coarse.

    Rules, not categories, because the look of polygons depends on two columns. Values that are no class given here
    show in grey.

    Args:
        classes: values of `field` that get a colour; none for nodes, which have no class.
        kind: what is drawn.
        field: column of the class.
        colours: of the classes, hex; polygons then have no column `origin`. Default: those of `colour`.
        between: columns of the first day that a row shows and of the day when it ends (empty: it does not), for
            QGIS's temporal controller.
    """
    root = ET.Element("qgis", version="3.28.0", styleCategories="Symbology" + ("|Temporal" if between else ""))
    if between is not None:
        root.append(_temporal(*between))
    renderer = ET.SubElement(root, "renderer-v2", type="RuleRenderer", symbollevels="0", forceraster="0")
    rules = ET.SubElement(renderer, "rules", key="rules")
    symbols = ET.SubElement(renderer, "symbols")

    def add(label: str, expression: str, hex_colour: str, dashed: bool = False) -> None:
        name = str(len(symbols))
        ET.SubElement(rules, "rule", key=f"rule_{name}", filter=expression, symbol=name, label=label)
        symbols.append(_symbol(name, kind, hex_colour, dashed))

    for class_ in classes:
        of_class = f"{_identifier(field)} = {_literal(class_)}"
        if colours is not None:
            add(class_, of_class, colours[class_])
        elif kind == "polygons":
            add(class_, f"{of_class} AND \"origin\" IS NOT 'coarse'", colour(class_))
            add(f"{class_} (coarse)", f"{of_class} AND \"origin\" = 'coarse'", colour(class_), dashed=True)
        else:
            add(class_, of_class, colour(class_))
    add("other" if classes else kind, "ELSE", _OTHER)
    ET.SubElement(root, "layerGeometryType").text = _GEOMETRY_TYPE[kind]
    return _document(root)


def raster_qml(classes: Sequence[str]) -> str:
    """Return the QGIS style of a class raster: the colour and name of each class, and of no other value.

    A byte's palette in a TIFF has 256 entries, which QGIS would all list.
    """
    root = ET.Element("qgis", version="3.28.0", styleCategories="Symbology")
    renderer = ET.SubElement(
        ET.SubElement(root, "pipe"), "rasterrenderer", type="paletted", band="1", opacity="1", alphaBand="-1"
    )
    palette = ET.SubElement(renderer, "colorPalette")
    for value, name in enumerate(classes, start=1):
        ET.SubElement(palette, "paletteEntry", value=str(value), color=colour(name), alpha="255", label=name)
    return _document(root)


def _document(root: ET.Element) -> str:
    ET.indent(root)
    return f"<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n{ET.tostring(root, encoding='unicode')}\n"


def _temporal(start: str, end: str) -> ET.Element:
    """Settings of a layer whose rows hold from one column's day to another's (QgsVectorLayerTemporalProperties)."""
    settings = {
        "enabled": "1", "mode": "2", "startField": start, "endField": end, "limitMode": "0", "accumulate": "0",
        "fixedDuration": "0", "durationUnit": "min", "durationField": "", "startExpression": "", "endExpression": "",
    }  # fmt: skip
    element = ET.Element("temporal", settings)
    span = ET.SubElement(element, "fixedRange")
    for name in ("start", "end"):
        ET.SubElement(span, name)
    return element


def _symbol(name: str, kind: Kind, hex_colour: str, dashed: bool) -> ET.Element:
    type_, layer_class, options = _LOOKS[kind](",".join(map(str, _rgb(hex_colour))), "dash" if dashed else "solid")
    symbol = ET.Element("symbol", type=type_, name=name, alpha="1", clip_to_extent="1", force_rhr="0")
    layer = ET.SubElement(symbol, "layer", {"class": layer_class, "enabled": "1", "locked": "0", "pass": "0"})
    table = ET.SubElement(layer, "Option", type="Map")
    for key, value in options.items():
        ET.SubElement(table, "Option", name=key, type="QString", value=value)
    return symbol


def _fill(rgb: str, dash: str) -> tuple[str, str, dict[str, str]]:
    options = {
        "color": f"{rgb},{FILL_ALPHA}",
        "style": "solid",
        "outline_color": f"{rgb},255",
        "outline_style": dash,
        "outline_width": str(_OUTLINE_MM),
        "outline_width_unit": "MM",
        "joinstyle": "bevel",
    }
    return "fill", "SimpleFill", options


def _line(rgb: str, dash: str) -> tuple[str, str, dict[str, str]]:
    options = {
        "line_color": f"{rgb},255",
        "line_style": dash,
        "line_width": str(_LINE_MM),
        "line_width_unit": "MM",
        "capstyle": "round",
        "joinstyle": "round",
    }
    return "line", "SimpleLine", options


def _marker(rgb: str, dash: str) -> tuple[str, str, dict[str, str]]:
    options = {
        "name": "circle",
        "color": "255,255,255,255",
        "outline_color": f"{rgb},255",
        "outline_style": dash,
        "outline_width": str(_OUTLINE_MM),
        "outline_width_unit": "MM",
        "size": str(_NODE_MM),
        "size_unit": "MM",
    }
    return "marker", "SimpleMarker", options


_LOOKS: dict[Kind, Callable[[str, str], tuple[str, str, dict[str, str]]]] = {
    "polygons": _fill,
    "lines": _line,
    "nodes": _marker,
}
"""By kind, from red,green,blue and the name of a dash: type of the symbol, class of its layer, options of that."""


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
