"""Rendered towns with exact ground truth, as if seen from above: for tests, notebooks, the demo and training.

From the plan of a town to its picture:

    layout   streets, plots and houses (the values of `plan`), drawn from a seed
    paint    ground, roads, walls and trees on a `canvas` of colour and height; `roofs` on top of them
    canvas   the surfaces to paint on, the sun that lights them and the camera that takes the picture
    town     the picture with its roof outlines, georeferenced

Needs nothing of hybridseg.
"""

from townscape.town import Town, render_town

__all__ = ["Town", "render_town"]
