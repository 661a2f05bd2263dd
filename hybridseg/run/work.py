"""What lies between a scene and its map, as files: kept in a folder, and started from again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from pathlib import Path

import geopandas as gpd

from hybridseg.errors import HybridsegError, OutputError
from hybridseg.files import check_folder, check_not_input
from hybridseg.run.result import Steps
from hybridseg.run.survey import Survey
from hybridseg.tables import Prompts, Refined
from hybridseg.types import Extent
from hybridseg.what.prompts import check_rows, read_prompts

HEATMAPS, PROMPTS, REFINED = "heatmap*.tif", "prompts.parquet", "refined.parquet"


def check_work(folder: Path, names: Sequence[str], out: str | Path | None, inputs: Iterable[object]) -> None:
    """Check that a run may leave files in a folder: to be asked before hours of work.

    Args:
        folder: need not be there yet.
        names: those of `HEATMAPS`, `PROMPTS` and `REFINED` that will be written.
        out: the result.
        inputs: what is read.

    Raises:
        OutputError: nothing can be written there, or it would replace an input or the result.
    """
    check_folder(folder)
    inputs = list(inputs)
    for file in folder.iterdir() if folder.is_dir() else ():
        if _is_one_of(file, names):
            check_not_input(file, inputs)
    if out is not None and Path(out).resolve().parent == folder.resolve() and _is_one_of(Path(out), names):
        raise OutputError(f"{out} is a name that --keep-work uses in {folder}: choose another name or folder")


def _is_one_of(file: Path, names: Sequence[str]) -> bool:
    """Whether a file is called so, in whatever letter case: some disks do not tell them apart."""
    return any(fnmatch(file.name.casefold(), name) for name in names)


def leave_work(steps: Sequence[Steps], folder: Path) -> None:
    """Leave heatmaps, prompts and masks in a folder, as far as the run made them.

    Args:
        steps: of one theme: heatmap.tif; of several: heatmap-<theme>.tif, one for all who share it.
        folder: made where it is missing.

    Raises:
        OutputError: a file cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder} for --keep-work: {error.strerror}") from error
    crs = steps[0].refined.crs
    heatmaps = {made.heatmap.fingerprint: made.heatmap for made in steps if made.heatmap is not None}
    for fingerprint, heatmap in heatmaps.items():
        names = [s.theme.name for s in steps if s.heatmap is not None and s.heatmap.fingerprint == fingerprint]
        heatmap.write(folder / ("heatmap.tif" if len(steps) == 1 else f"heatmap-{'-'.join(names)}.tif"))
    if prompts := [made.prompts for made in steps if made.prompts is not None]:
        Prompts.concat(prompts, crs).write(folder / PROMPTS)
    Refined.concat([made.refined for made in steps], crs).write(folder / REFINED)


def start_from(
    surveys: Sequence[Survey],
    prompts: str | Path | gpd.GeoDataFrame | None,
    refined: str | Path | None,
    extent: Extent | None,
) -> list[Steps]:
    """Make the steps of surveys of one scene, from the beginning or from what an earlier run or a person made.

    Args:
        surveys: one for each theme.
        prompts: skip the first sweep and refine these.
        refined: skip both sweeps and gate and shape these.
        extent: see `Survey.steps`.

    Raises:
        HybridsegError: both are given.
        PromptsError: they cannot be used, or hold classes that no theme looks for.
    """
    if prompts is not None and refined is not None:
        raise HybridsegError("--from-prompts and --from-refined came together; give one of them")
    scene, labels = surveys[0].scene, list(dict.fromkeys(survey.theme.label for survey in surveys))
    if refined is not None:
        masks = Refined.read(Path(refined), scene.crs)
        check_rows(masks.rows.set_geometry("support"), labels, scene, "refined masks")
        return [s.steps_from(masks.take(masks.rows["class"] == s.theme.label), extent) for s in surveys]
    if prompts is not None:
        asked, scored = read_prompts(prompts, labels, scene)
        own = [asked.take(asked.rows["class"] == survey.theme.label) for survey in surveys]
        return [s.steps_from(s.refine(rows), extent, scored) for s, rows in zip(surveys, own, strict=True)]
    return [survey.steps(extent) for survey in surveys]
