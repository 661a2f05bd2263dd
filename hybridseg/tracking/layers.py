"""The result as a GeoPackage that QGIS opens with its colours and its temporal controller set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from hybridseg.run.request import in_crs
from hybridseg.tracking.change import BRIEF, GONE, GROWN, MERGED, NEW, SHRUNK, SPLIT, STABLE, History
from hybridseg.tracking.follow import ABSENT, PRESENT, UNKNOWN
from hybridseg.write.formats import Layer
from hybridseg.write.result import write_layers
from hybridseg.write.style import qml

COLOURS = {
    STABLE: "#8d99ae", NEW: "#009e73", GONE: "#d55e00", GROWN: "#56b4e9", SHRUNK: "#e69f00", SPLIT: "#cc79a7",
    MERGED: "#7b4ea3", BRIEF: "#f0e442",
}  # fmt: skip
"""Of what became of objects; mostly from Okabe & Ito (2008), told apart by colour-blind eyes too."""
_DAY = pd.ArrowDtype(pa.date32())
_STATUS = {PRESENT: "#0072b2", ABSENT: "#d55e00", UNKNOWN: "#999999"}
_CHANGES = {"gain": "#009e73", "loss": "#d55e00"}


def write_tracks(made: History, path: Path, provenance: Mapping[str, Any], crs: str | None = None) -> None:
    """Write `objects` (a row an object), `observations` (a row an object and date) and `changes` (gain and loss).

    Args:
        made: what became of the objects.
        path: ends in .gpkg.
        provenance: see `run.provenance.Provenance`.
        crs: to write in; None keeps that of the scenes.

    Raises:
        OutputError: the file cannot be written there, or not in this CRS.
    """
    source = str(provenance.get("source", ""))
    looks = {
        "objects": (made.objects, "became", COLOURS, None, "What became of each object"),
        "observations": (made.observations, "status", _STATUS, ("date", "until"), "Each object at each date"),
        "changes": (made.changes, "change", _CHANGES, ("end", ""), "Ground gained and lost between dates"),
    }
    layers = []
    texts = {"track_id", "class", "status", "became", "change", "origin", "joined", "merged_into"}
    days = {"date", "until", "first_seen", "last_seen", "start", "end"}
    for name, (frame, field, colours, between, title) in looks.items():
        style = qml(list(colours), field=field, colours=colours, between=between)
        # a column of nothing but None has no type of its own
        frame = frame.astype(dict.fromkeys(texts & set(frame), "string"))
        others = frame.columns.difference([*texts, *days, "geometry"])
        frame = frame.astype({column: float for column in others if frame[column].dtype == object})
        frame = frame.assign(**{day: pd.array(list(frame[day]), _DAY) for day in sorted(days & set(frame))})
        layers.append(Layer(name, in_crs(frame, crs), "polygons", f"{title}: {source}", style))
    write_layers(layers, path, provenance)
