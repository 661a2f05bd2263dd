"""Prompts from a file: those of an earlier run, edited or not, or any layer of polygons drawn by hand."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from hybridseg.errors import LayerError, PromptsError
from hybridseg.read.scene import Scene
from hybridseg.read.vectors import read_layer
from hybridseg.tables import PROMPT_COLUMNS, Prompts

_LARGEST = 2.0
"""Outlines may be this many times as long as the scene; what is larger is in the wrong CRS."""


@dataclass(frozen=True)
class GivenPrompts:
    """Prompts of one or several classes that stand in for the first sweep. Made by `read_prompts`.

    prompts: in the CRS of the scene.
    scored: whether their scores are a classifier's own: those of a map are calibrated already, a person's are none.
    """

    prompts: Prompts
    scored: bool


def read_prompts(source: Path | str | gpd.GeoDataFrame, labels: Sequence[str], scene: Scene) -> GivenPrompts:
    """Read prompts of the classes that are looked for.

    What a hand-drawn layer lacks is filled in: the first class of `labels`, score 1, a point inside as positive point.

    Args:
        source: a prompts file, or any layer of polygons.
        labels: classes that are looked for, one a theme.
        scene: gives the CRS, and the ground that the prompts must touch.

    Raises:
        PromptsError: not readable, no CRS, rows that are not polygons, of another class, or beside the scene; several
            themes look for one class.
    """
    if len(set(labels)) < len(labels):
        raise PromptsError(
            f"several of the themes look for one class ({', '.join(labels)}), and prompts name their class alone; give "
            "these themes one by one"
        )
    try:
        layer = read_layer(source, crs=scene.crs, polygons=True, empty_ok=True)
    except LayerError as error:
        raise PromptsError(f"cannot read prompts: {error}") from error
    if layer.dropped:
        raise PromptsError(
            f"{layer.name}: {layer.dropped} prompts have no outline that can be used; remove or redraw them"
        )
    frame = layer.rows
    if frame.geometry.name != "support":
        frame = frame.rename_geometry("support")
    scored = {"score", "peak_x"} <= set(frame.columns) or "score_raw" in frame
    if "score_raw" in frame:
        frame["score"] = frame["score_raw"]
    frame = _filled(frame, labels[0], scene.crs)
    _check_rows(frame, labels, scene)
    _place_peaks(frame, scene)
    read = Prompts.from_frame(frame[list(PROMPT_COLUMNS)].reset_index(drop=True), scene.crs)
    return GivenPrompts(Prompts.from_batches(read.batches(), len(read)), scored)


def _filled(frame: gpd.GeoDataFrame, label: str, crs: object) -> gpd.GeoDataFrame:
    """The frame with all columns of prompts, its points in `crs`."""
    inside = frame.geometry.representative_point()
    defaults = {
        "id": [f"{label}-{hashlib.sha256(g.wkb).hexdigest()[:12]}" for g in frame.geometry],
        "class": label,
        "score": 1.0,
        "peak_x": inside.x,
        "peak_y": inside.y,
        "positive": [shapely.MultiPoint([p]) for p in inside],
        "negative": [shapely.MultiPoint()] * len(frame),
    }
    for column, value in defaults.items():
        if column not in frame:
            frame[column] = value
    for column in ("positive", "negative"):
        points = frame[column]
        if not isinstance(points, gpd.GeoSeries):
            points = gpd.GeoSeries(list(points), index=frame.index, crs=crs)
        frame[column] = points.set_crs(points.crs or crs).to_crs(crs)
    for column in ("score", "peak_x", "peak_y"):
        if not pd.api.types.is_numeric_dtype(frame[column]):
            raise PromptsError(f"the prompts' column {column} holds text; give numbers, or leave the column out")
    return frame


def _place_peaks(frame: gpd.GeoDataFrame, scene: Scene) -> None:
    """Put peaks that lie beside the scene inside their outlines: a layer brought to another CRS keeps the numbers."""
    left, bottom, right, top = scene.geobox.boundingbox.bbox
    beside = ~(frame["peak_x"].between(left, right) & frame["peak_y"].between(bottom, top))
    inside = frame.geometry[beside].representative_point()
    frame.loc[beside, "peak_x"], frame.loc[beside, "peak_y"] = inside.x, inside.y


def _check_rows(rows: gpd.GeoDataFrame, labels: Sequence[str], scene: Scene) -> None:
    """Check that rows are of classes that are looked for, and that their outlines lie on the scene.

    Args:
        rows: in the scene's CRS.
        labels: classes that are looked for.
        scene: gives the ground.

    Raises:
        PromptsError: some are not.
    """
    bounds = rows.bounds.to_numpy()
    left, bottom, right, top = scene.geobox.boundingbox.bbox
    beside = (bounds[:, 0] > right) | (bounds[:, 2] < left) | (bounds[:, 1] > top) | (bounds[:, 3] < bottom)
    longest = _LARGEST * max(right - left, top - bottom)
    vast = np.maximum(bounds[:, 2] - bounds[:, 0], bounds[:, 3] - bounds[:, 1]) > longest
    for wrong, place in ((beside, "lie beside"), (vast, f"are more than {_LARGEST:g} times as long as")):
        if wrong.any():
            raise PromptsError(
                f"{int(wrong.sum())} of {len(rows)} prompts {place} the scene {scene.name}; check the layer's CRS, or "
                "leave these out"
            )
    foreign = rows.loc[~rows["class"].isin(labels), "class"].astype(str)
    if len(foreign):
        names = ", ".join(f"{name} ({count})" for name, count in foreign.value_counts().items())
        raise PromptsError(
            f"the prompts have classes that no theme looks for: {names}; the themes look for {', '.join(labels)}: "
            "change the column `class`, leave these out, or give their themes"
        )
