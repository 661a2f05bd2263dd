"""The folder of a run: what lies between a scene and its map, to go on from and to look at."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

import geopandas as gpd

from hybridseg.errors import HybridsegError, OutputError
from hybridseg.files import check_folder, check_not_input
from hybridseg.run.result import Steps
from hybridseg.run.store import Folder
from hybridseg.run.survey import Survey
from hybridseg.tables import Prompts
from hybridseg.what.prompts import read_prompts
from hybridseg.write.steps import HEATMAPS, PROMPTS, REFINED

PARTS = "parts"
"""Folder in that of the run: values by key, for processes and not for people."""


def open_run(folder: Path, retry_failed: bool, swept: bool, out: str | Path | None, inputs: Sequence[object]) -> Folder:
    """Open the folder of a run, new or begun.

    Args:
        folder: made where it is missing.
        retry_failed: forget which windows failed.
        swept: whether heatmap and prompts will be left there, too, and not only masks.
        out: the result.
        inputs: what is read.

    Raises:
        OutputError: nothing can be written there, or it would replace an input or the result.
    """
    check_folder(folder)
    names = (HEATMAPS, PROMPTS, REFINED) if swept else (REFINED,)
    for file in folder.iterdir() if folder.is_dir() else ():
        if _is_one_of(file, names):
            check_not_input(file, inputs)
    if out is not None and Path(out).resolve().parent == folder.resolve() and _is_one_of(Path(out), names):
        raise OutputError(f"{out} is a name that --run uses in {folder}: choose another name or folder")
    try:
        store = Folder(folder / PARTS)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder} for --run: {error.strerror}") from error
    if retry_failed:
        store.forget_failures()
    return store


def _is_one_of(file: Path, names: Sequence[str]) -> bool:
    """Whether a file is called so, in whatever letter case: some disks do not tell them apart."""
    return any(fnmatch(file.name.casefold(), name) for name in names)


def start_from(surveys: Sequence[Survey], prompts: str | Path | gpd.GeoDataFrame | None) -> list[Steps]:
    """Make the steps of surveys of one scene, from the beginning or from prompts.

    Args:
        surveys: one for each theme.
        prompts: skip the first sweep and refine these.

    Raises:
        HybridsegError: themes of one class cannot share prompts.
        PromptsError: they cannot be used, or hold classes that no theme looks for.
    """
    if prompts is None:
        return [survey.steps() for survey in surveys]
    labels = [survey.theme.label for survey in surveys]
    if len(set(labels)) < len(labels):
        names = ", ".join(survey.theme.name for survey in surveys)
        raise HybridsegError(
            f"of the themes {names} several look for one class ({', '.join(labels)}), and prompts name their class "
            "alone; give these themes one by one"
        )
    asked, scored = read_prompts(prompts, labels, surveys[0].scene)
    return [_of(s, asked.take(asked.rows["class"] == s.theme.label), scored) for s in surveys]


def _of(survey: Survey, prompts: Prompts, scored: bool) -> Steps:
    """Make masks and features of prompts; the heatmap, too, where it labels the masks."""
    refined = survey.refine(prompts)
    if survey.theme.objects.labels_masks:
        refined = survey.relabel(refined, survey.heatmap())
    return survey.steps_from(refined, scored)
