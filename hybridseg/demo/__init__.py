"""A small town with known truth, rendered as if seen from above: for `make demo`, tests, notebooks and training."""

from hybridseg.demo.town import Town, render_town

__all__ = ["Town", "render_town"]
