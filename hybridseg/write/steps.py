"""What lies between a scene and its map, as files to look at and to edit: heatmaps, prompts, refined masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from hybridseg.heatmap import Heatmap
from hybridseg.tables import Prompts, Refined

HEATMAPS, PROMPTS, REFINED = "heatmap*.tif", "prompts.parquet", "refined.parquet"


def write_steps(
    folder: Path, heatmaps: Mapping[str, Heatmap | None], prompts: Sequence[Prompts | None], refined: Sequence[Refined]
) -> None:
    """Write the values of one or several themes, as far as a run made them.

    Args:
        folder: of the run.
        heatmaps: by theme. Of one theme: heatmap.tif; of several: heatmap-<theme>.tif, one for all that share it.
        prompts: of each theme.
        refined: masks of each theme.

    Raises:
        OutputError: a file cannot be written.
    """
    made = {heatmap.fingerprint: heatmap for heatmap in heatmaps.values() if heatmap is not None}
    for fingerprint, heatmap in made.items():
        names = [name for name, one in heatmaps.items() if one is not None and one.fingerprint == fingerprint]
        heatmap.write(folder / ("heatmap.tif" if len(heatmaps) == 1 else f"heatmap-{'-'.join(names)}.tif"))
    crs = refined[0].crs
    if found := [one for one in prompts if one is not None]:
        Prompts.concat(found, crs).write(folder / PROMPTS)
    Refined.concat(refined, crs).write(folder / REFINED)
