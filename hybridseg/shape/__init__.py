"""From exact outlines to map features: overlaps resolved, then shaped as the theme's kind of object asks."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hybridseg.shape.buildings import Buildings
from hybridseg.shape.coverage import Coverage
from hybridseg.shape.lines import Lines
from hybridseg.shape.rows import Rows
from hybridseg.shape.settings import AsTraced
from hybridseg.shape.smooth import Smooth

Shape = Annotated[Buildings | Rows | Coverage | Lines | Smooth | AsTraced, Field(discriminator="kind")]
"""A stage of shaping by its `kind`: settings and work in one value."""

__all__ = ["AsTraced", "Buildings", "Coverage", "Lines", "Rows", "Shape", "Smooth"]
