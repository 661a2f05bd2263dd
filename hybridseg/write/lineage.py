"""Where a result comes from, in words that people read in QGIS; made of its provenance (`run/provenance.py`)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree as ET

COLUMNS = {
    "id": "Name of the object, from its class and place: the same in every run over the same ground",
    "class": "What the object is",
    "score": "Chance that the object is of its class, 0 to 1, as far as the classifier is calibrated",
    "score_raw": "The classifier's own score before calibration, 0 to 1",
    "origin": "Whose outline it is: refined (SAM2), coarse (classifier), clicked or drawn (a person), carried (track)",
    "iou_pred": "IoU that SAM2 predicts for its mask, 0 to 1; empty where it was not asked",
    "stability": "IoU of SAM2's masks at a lower and a higher threshold, 0 to 1; empty where it was not asked",
    "agreement": "IoU of SAM2's mask with the classifier's outline, 0 to 1; empty where it was not asked",
    "area_m2": "Area on the ground in square metres",
    "width_m": "Width on the ground in metres, from edge to edge across the line",
    "length_m": "Length on the ground in metres",
    "from_node": "id of the node where the line starts",
    "to_node": "id of the node where the line ends",
    "degree": "Number of ends of lines that meet at the node",
    "verdict": "What a person said of the object: unseen (nothing yet), accepted, corrected or added",
    "reviewer": "Who said so",
    "reviewed": "When, in UTC",
    "parents": "Ids of the objects that it was made of by split or merge",
    "track_id": "Name of an object through all dates: the same in every run, and when a date is added at the end",
    "date": "Day of the imagery; of a month or a year alone, its first",
    "until": "Day of the next date; empty of the last",
    "status": "Whether the object is there: present, absent, or unknown (its ground was not seen)",
    "area_sd_m2": "Standard error of the area: perimeter times the error of the outline",
    "seen": "Share of the object's ground that was seen, where it was not found",
    "heatmap": "Mean probability of the class on the object's ground, where it was not found",
    "joined": "Ids of the objects that were found as one with it",
    "became": "From first date to last: stable, new, gone, grown, shrunk, split, merged; brief: there only in between",
    "dates_present": "Number of dates at which it is present",
    "dates_absent": "Number of dates at which it is absent",
    "dates_unknown": "Number of dates at which its ground was not seen",
    "area_first_m2": "Area at the first date at which its ground was seen, in square metres",
    "area_last_m2": "Area at the last date at which its ground was seen, in square metres",
    "first_seen": "First date at which it is present",
    "last_seen": "Last date at which it is present",
    "change_m2": "Area at the last date at which its ground was seen, less that at the first",
    "change_sd_m2": "Standard error of change_m2",
    "gain_m2": "Sum of what it grew between dates",
    "loss_m2": "Sum of what it shrank between dates",
    "merged_into": "Id of the object that took it in",
    "start": "The earlier of two dates",
    "end": "The later of two dates",
    "change": "Whether the ground was gained or lost between the two dates",
}
"""Meaning of each column of a result, in one line."""

WRITTEN = "Written by hybridseg"
"""The beginning of the line in a layer's history by which `result.companion` knows its metadata."""

_CONTROL = re.compile(r"[^\t\n -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def title(provenance: Mapping[str, Any], classes: Sequence[str], kind: str) -> str:
    """Return a layer's title for a catalogue, as in "building (polygons) of town.tif".

    Args:
        provenance: see `run.provenance.Provenance`; entries that are missing are left out.
        classes: those in the layer.
        kind: what its geometries are (polygons, lines, nodes).
    """
    named = ", ".join(classes) if len(classes) < 6 else f"{len(classes)} classes"
    what = f"{named} ({kind})" if classes else kind
    source = re.split(r"[/\\]", str(provenance.get("source", "")).rstrip("/\\"))[-1]
    return _clean(f"{what} of {source}" if source else what)


def abstract(provenance: Mapping[str, Any]) -> str:
    """Return what people want to know of a result, a line each: how it was made, with which settings, credits."""
    lines = []
    if maker := provenance.get("hybridseg"):
        lines.append(f"Made by hybridseg {maker} at {provenance.get('created', 'a time not given')}.")
    if source := provenance.get("source"):
        lines.append(f"Scene: {source} (fingerprint {provenance.get('source_fingerprint', 'not given')}).")
    lines += [f"Model: {name} (sha256 {hash_})." for name, hash_ in (provenance.get("models") or {}).items()]
    for name, value in (provenance.get("request") or {}).items():
        text = json.dumps(value, ensure_ascii=False).strip('"')
        if value is not None and "\\n" not in text and len(text) < 500:  # a theme's YAML is for machines
            lines.append(f"{name}: {text}")
    lines += [f"{line}." for line in attributions(provenance)]
    return _clean("\n".join(lines))


def attributions(provenance: Mapping[str, Any]) -> list[str]:
    """Return a line for each credit."""
    return [_clean(f"{c['of']}: {c['attribution']}" + _in_brackets(c["licence"])) for c in _credits(provenance)]


def licences(provenance: Mapping[str, Any]) -> list[str]:
    """Return the licences of imagery and weights, each once."""
    return list(dict.fromkeys(_clean(c["licence"]) for c in _credits(provenance) if c["licence"]))


def history(provenance: Mapping[str, Any]) -> list[str]:
    """Return what was done to make a result, a line a step."""
    steps = []
    if source := provenance.get("source"):
        steps.append(f"Imagery read from {source} (fingerprint {provenance.get('source_fingerprint', 'not given')})")
    steps += [f"Seen with {name} (sha256 {hash_})" for name, hash_ in (provenance.get("models") or {}).items()]
    maker = provenance.get("hybridseg", "of a version not given")
    steps.append(f"{WRITTEN} {maker} at {provenance.get('created', 'a time not given')}")
    if versions := provenance.get("versions"):
        steps.append("Made with " + ", ".join(f"{name} {number}" for name, number in versions.items()))
    return [_clean(step) for step in steps]


def qgis_metadata(provenance: Mapping[str, Any], heading: str, crs_wkt: str, columns: Sequence[str] = ()) -> str:
    """Return a layer's metadata in the XML of QGIS, which shows it under Properties, Metadata.

    Args:
        provenance: see `run.provenance.Provenance`.
        heading: the layer's title.
        crs_wkt: of the layer.
        columns: those whose meaning the abstract tells. QGIS before 3.32 shows it nowhere else, even where the format
            has a place for it.
    """
    root = ET.Element("qgis", version="3.28.0")
    meanings = [f"Column {name}: {COLUMNS[name]}." for name in columns if name in COLUMNS]
    texts = [
        ("identifier", heading),
        ("type", "dataset"),
        ("title", heading),
        ("abstract", "\n".join([abstract(provenance), *meanings])),
        *(("rights", line) for line in attributions(provenance)),
        *(("license", name) for name in licences(provenance)),
        *(("history", line) for line in history(provenance)),
    ]
    for tag, text in texts:
        ET.SubElement(root, tag).text = text
    crs = ET.SubElement(ET.SubElement(root, "crs"), "spatialrefsys", nativeFormat="Wkt")
    ET.SubElement(crs, "wkt").text = crs_wkt
    ET.indent(root)
    return f"<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n{ET.tostring(root, encoding='unicode')}\n"


def _credits(provenance: Mapping[str, Any]) -> list[Mapping[str, str]]:
    return list(provenance.get("credits") or [])


def _in_brackets(text: str) -> str:
    return f" ({text})" if text else ""


def _clean(text: str) -> str:
    """The text without what UTF-8 or XML cannot hold, such as bytes of a file name in another encoding."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)
