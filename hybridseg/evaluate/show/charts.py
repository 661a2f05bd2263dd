"""Curves of a report as SVG, to stand in a page."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

_STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9aa5b1",
    "axes.labelcolor": "#3e4c59",
    "xtick.color": "#616e7c",
    "ytick.color": "#616e7c",
    "axes.prop_cycle": cycler(color=["#2a6f97", "#d1495b", "#edae49", "#66a182", "#8d6a9f"]),
    "svg.fonttype": "none",
    "svg.hashsalt": "hybridseg",  # the same report gives the same file
}


def charts(curves: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(title, SVG) of each curve that a report has."""
    known: dict[str, tuple[str, Callable[[Axes, Any], None]]] = {
        "precision_recall": ("Precision over recall, IoU 0.5", _precision_recall),
        "reliability": ("What a score is worth", _reliability),
        "by_iou": ("Stricter outlines", _by_iou),
    }
    return [(title, _svg(draw, curves[name])) for name, (title, draw) in known.items() if name in curves]


def _svg(draw: Callable[[Axes, Any], None], curve: Any) -> str:
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(3.6, 2.9), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        axes.set(xlim=(0, 1), ylim=(0, 1.02))
        axes.grid(color="#e4e7eb", linewidth=0.7)
        draw(axes, curve)
        file = io.StringIO()
        with warnings.catch_warnings():  # text stays text in the SVG: the browser's fonts show it, and know more
            warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
            figure.savefig(file, format="svg", metadata={"Date": None}, transparent=True)
    svg = file.getvalue()
    return svg[svg.index("<svg") :]


def _precision_recall(axes: Axes, curve: Mapping[str, Any]) -> None:
    for name, precision in curve["precision"].items():
        axes.plot(curve["recall"], precision, label=name)
    axes.set(xlabel="recall", ylabel="precision")
    axes.legend(frameon=False, loc="lower left")


def _reliability(axes: Axes, curve: Mapping[str, Any]) -> None:
    share = np.asarray(curve["objects"], float) / max(np.sum(curve["objects"]), 1)
    middles = (np.arange(len(share)) + 0.5) / len(share)
    axes.bar(middles, share, width=0.9 / len(share), color="#cbd2d9", label="share of objects")
    axes.plot([0, 1], [0, 1], color="#9aa5b1", linewidth=0.8, linestyle="--")
    there = np.asarray(curve["objects"]) > 0
    axes.plot(np.asarray(curve["score"])[there], np.asarray(curve["share_of_hits"])[there], "o-", label="share of hits")
    axes.set(xlabel="score")
    axes.legend(frameon=False, loc="upper left")


def _by_iou(axes: Axes, curve: Mapping[str, Any]) -> None:
    for name in ("f1", "ap"):
        if name in curve:
            axes.plot(curve["iou"], curve[name], "o-", markersize=3, label=name.upper())
    axes.set(xlabel="least IoU of a hit", xlim=(0.48, 0.97))
    axes.legend(frameon=False, loc="upper right")
