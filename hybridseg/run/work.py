"""The work of a run: its folder, its surveys with all that they need, their steps, and what made them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from hybridseg import nn
from hybridseg.errors import OutputError, WeightsError
from hybridseg.files import check_folder, check_not_input
from hybridseg.heatmap import Heatmap
from hybridseg.read.given import GivenHeatmap
from hybridseg.read.part import ScenePart
from hybridseg.read.prompts import GivenPrompts
from hybridseg.run.bucket import SCHEME, Bucket
from hybridseg.run.engine import Engine
from hybridseg.run.progress import Progress
from hybridseg.run.provenance import Credit, Provenance, as_json
from hybridseg.run.result import Steps
from hybridseg.run.store import Folder, Memory, Store
from hybridseg.run.survey import Survey
from hybridseg.tables import Prompts, Refined
from hybridseg.theme import Theme
from hybridseg.write.raster import write_heatmap

PARTS = "parts"
"""Folder in that of the run: values by key, for processes and not for people."""


@dataclass(frozen=True)
class Tools:
    """What all surveys of a run work with.

    device: auto, cpu, cuda, cuda:1, mps.
    runtime: auto, torch, openvino.
    engine: runs the tasks.
    cache: folder for embeddings; None: none are kept.
    progress: told how far the work is.
    """

    device: str
    runtime: str
    engine: Engine
    cache: Path | None
    progress: Progress


def open_store(
    folder: str | Path | None, retry_failed: bool, swept: bool, out: str | Path | None, inputs: Sequence[object]
) -> Store:
    """Open the folder of a run, new or begun, or a store in memory; refuse to write over what is read.

    Args:
        folder: made where it is missing, or s3://BUCKET/RUN; None: the run leaves nothing but its result.
        retry_failed: forget which windows failed.
        swept: whether heatmap and prompts will be left there, too, and not only masks.
        out: the result.
        inputs: what is read.

    Raises:
        OutputError: nothing can be written there, or it would replace an input or the result.
    """
    if out is not None:
        check_not_input(out, inputs)
    if folder is None:
        return Memory()
    if str(folder).startswith(SCHEME):
        bucket = Bucket(str(folder))
        if retry_failed:
            bucket.forget_failures()
        return bucket
    folder = Path(folder)
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


def open_surveys(
    part: ScenePart, themes: Sequence[Theme], tools: Tools, store: Store, given: GivenHeatmap | None = None
) -> list[Survey]:
    """Open a survey for each theme; they share one store, so that themes with one classifier share its heatmap.

    Args:
        part: what to look at.
        themes: what to look for.
        tools: what to work with.
        store: remembers what is made.
        given: a heatmap that stands in for the classifiers.
    """
    return [
        Survey.open(
            part.scene,
            theme,
            None,
            tools.device,
            tools.runtime,
            ground=part.ground,
            store=store,
            engine=tools.engine,
            progress=tools.progress,
            reach_m=max(theme.objects.reach_m for theme in themes),
            cache=tools.cache,
            given=None if given is None else _carded(given, theme.classifier),
        )
        for theme in themes
    ]


def _carded(given: GivenHeatmap, classifier: str) -> GivenHeatmap:
    """A heatmap with the card of a classifier, which says what scores mean, where that made it."""
    if given.made_by is None:
        return given
    try:
        folder = nn.cards.model_folder(classifier)
    except WeightsError:
        return given
    own = nn.cards.sha256(folder / "weights.safetensors") == given.made_by
    return replace(given, card=nn.cards.read_card(folder)) if own else given


def start_from(surveys: Sequence[Survey], given: GivenPrompts | None) -> list[Steps]:
    """Make the steps of surveys, one for each theme, from the beginning or from prompts of their classes."""
    return [survey.steps() if given is None else _of(survey, given) for survey in surveys]


def _of(survey: Survey, given: GivenPrompts) -> Steps:
    """Make masks and features of prompts; the heatmap, too, where it labels the masks."""
    own = given.prompts.rows["class"] == survey.theme.label
    refined = survey.refine(given.prompts.take(own))
    if survey.theme.objects.labels_masks:
        refined = survey.relabel(refined, survey.heatmap())
    return survey.steps_from(refined, given.scored)


def provenance_of(surveys: Sequence[Survey], attribution: str | None, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return what made a result: the request with every choice resolved, so that the run can be repeated.

    Args:
        surveys: that made it.
        attribution: who must be named for the imagery; None: nobody is known.
        request: what was asked for beside bands, themes and refiners.
    """
    scene = surveys[0].scene
    asked = {
        "bands": list(scene.bands),
        "themes": [survey.theme.to_yaml() for survey in surveys],
        "refiners": [survey.models.refiner_name for survey in surveys],
        **as_json(request),
    }
    models = {name: sha for survey in surveys for name, sha in survey.models.hashes.items()}
    imagery = [Credit("imagery", attribution)] if attribution else []
    return Provenance.collect(scene, models, asked, [*imagery, *_credits_of_models(surveys)]).to_dict()


def _credits_of_models(surveys: Sequence[Survey]) -> list[Credit]:
    """Whom and which licence the cards of the models name, or else what they learnt from."""
    credits = []
    for name, card in {name: card for survey in surveys for name, card in _cards(survey).items()}.items():
        whom, licence = card.get("attribution"), card.get("licence", card.get("license"))
        if whom or licence:
            credits.append(Credit(name, str(whom or f"weights {name}"), str(licence or "")))
        elif isinstance(data := card.get("data"), list) and data:
            credits.append(Credit(name, "learnt from " + "; ".join(map(str, data))))
    return credits


def _cards(survey: Survey) -> dict[str, Mapping[str, Any]]:
    """The cards of the models by name; of an official refiner, which has none, its licence."""
    network, refiner = survey.models.classifier, survey.models.refiner_name
    cards = {network.name: network.card}
    if refiner in nn.cards.embedded():
        cards[refiner] = nn.cards.read_card(nn.cards.model_folder(refiner))
    elif source := nn.cards.source_of(refiner):
        cards[refiner] = {"licence": source.licence}
    return cards


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
        name = "heatmap.tif" if len(heatmaps) == 1 else f"heatmap-{'-'.join(names)}.tif"
        write_heatmap(heatmap, folder / name)
    crs = refined[0].crs
    if found := [one for one in prompts if one is not None]:
        Prompts.concat(found, crs).write(folder / PROMPTS)
    Refined.concat(refined, crs).write(folder / REFINED)
