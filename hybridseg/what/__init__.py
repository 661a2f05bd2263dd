"""First sweep: what is in the scene, coarsely. Heatmap, objects on it, prompts."""

from typing import Annotated

from pydantic import Field

from hybridseg.what.grid import Grid
from hybridseg.what.instances import Instances
from hybridseg.what.regions import Regions

Objects = Annotated[Instances | Regions | Grid, Field(discriminator="kind")]
"""Ways to find objects, as they stand in a theme's YAML; one more kind is one class more here."""

__all__ = ["Grid", "Instances", "Objects", "Regions", "other_kinds"]


def other_kinds(objects: Instances | Regions | Grid) -> list[Instances | Regions]:
    """Return other ways to find objects that count one by one, at the same size.

    Connected extent is the better way where objects stand apart and their interior is hard to learn.
    """
    match objects:
        case Instances():
            return [Regions(min_area_m2=objects.min_area_m2, piece_m=objects.max_object_m, overlap_m=0)]
        case Regions():
            return [Instances(min_area_m2=objects.min_area_m2, max_object_m=objects.piece_m)]
        case Grid():
            return []
