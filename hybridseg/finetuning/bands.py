"""What a backbone is shown of the scenes: 8-bit red, green and blue, or bands of its own as they are stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hybridseg import nn
from hybridseg.errors import BandsMissing, ThemeError
from hybridseg.read.bands import check_bands
from hybridseg.read.scene import Scene
from hybridseg.read.stretch import check_scaling


def shown_to(
    backbone: str, start: Mapping[str, Any] | None, sources: Sequence[Scene], numbers: Sequence[int] | None
) -> list[Scene]:
    """Each scene as the backbone wants to see it: as it is, or its raw bands. Nothing is fetched for it.

    Args:
        backbone: by name.
        start: classifier to go on from, if any: it looks at red, green and blue.
        sources: scenes.
        numbers: of the backbone's bands in the scenes, in its order; default: all, where there are so many.

    Raises:
        BandsMissing: other bands or another scaling came than it wants.
        ThemeError: numbers for a backbone that looks at red, green and blue.
    """
    backbones = nn.backbones
    wants = backbones.base.InputSpec() if start is not None else backbones.build_backbone(backbone).inputs
    if not wants.rgb:
        who = f"backbone {backbone} wants {wants}"
        if wants.by_name and numbers is None:
            return [source.raw(check_bands(source, wants.bands, f"backbone {backbone}")) for source in sources]
        return [check_scaling(_raw(s, len(wants.bands), numbers, who), wants.scaling, who) for s in sources]
    if numbers is not None:
        raise ThemeError(
            f"backbone {backbone} looks at 8-bit red, green and blue, which --bands names; leave out --backbone-bands"
        )
    return list(sources)


def _raw(source: Scene, count: int, numbers: Sequence[int] | None, who: str) -> Scene:
    chosen = source.data_bands if numbers is None else tuple(numbers)
    if len(chosen) == count:
        return source.raw(chosen)
    came = f"{source.name} has {len(chosen)}" if numbers is None else f"--backbone-bands gives {len(chosen)}"
    raise BandsMissing(f"{who}; {came}: give all {count}, by their numbers and in that order, with --backbone-bands")


def card_of(trunk: Any, seen: Scene) -> dict[str, Any]:
    """What the model's card says of the bands, so that `extract` shows it the same."""
    wants = trunk.inputs
    if wants.rgb:
        return {"bands": "red, green, blue", "scaling": "uint8, one stretch a scene (2 to 98 %); 8-bit RGB as it is"}
    if wants.by_name:
        return {"bands": ", ".join(wants.bands), "scaling": wants.scaling}
    return {"bands": ", ".join(wants.bands), "scaling": wants.scaling, "source_bands": list(seen.bands)}
