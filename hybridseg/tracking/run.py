"""The verb `track`: from scenes of one place at several dates to objects through time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import geopandas as gpd

from hybridseg import nn
from hybridseg.errors import HybridsegError
from hybridseg.files import check_output
from hybridseg.read.ground import gsd_m
from hybridseg.read.opening import files_of, open_scene
from hybridseg.read.part import Area, copyright_of
from hybridseg.read.paths import full_name
from hybridseg.read.scene import Scene
from hybridseg.run.progress import Progress, Quiet
from hybridseg.run.provenance import input_of
from hybridseg.run.request import EngineName, check_crs, check_retry, parse_bands, parse_engine, parse_nodata
from hybridseg.run.result import Steps
from hybridseg.run.survey import Survey
from hybridseg.run.themes import by_bands_note, resolve_themes
from hybridseg.run.work import open_store, provenance_of
from hybridseg.theme import Theme
from hybridseg.tracking.carry import MemoryCarry
from hybridseg.tracking.change import Errors, History, history
from hybridseg.tracking.dates import dated_scenes, scene_name
from hybridseg.tracking.follow import Dated, follow
from hybridseg.tracking.layers import write_tracks
from hybridseg.tracking.old import OldLayer
from hybridseg.tracking.page import write_page
from hybridseg.tracking.result import Tracked, TrackSummary
from hybridseg.tracking.series import Series
from hybridseg.tracking.settle import Carry, in_place, settle

OUTLINE_PX = 0.5
"""Pixels that an outline is off by (standard error), of those that it was traced on."""

BY_CLASSIFIER, BY_INDEX = 0.002, 0.5
"""Probability that an object comes or goes between two dates; 0.5 tells each date by itself."""


def track(
    scenes: Sequence[str | Path],
    out: str | Path | None = None,
    theme: str | Path | Sequence[str] | None = None,
    aoi: str | Path | gpd.GeoDataFrame | None = None,
    dates: str | Sequence[str] | None = None,
    layer: str | Path | None = None,
    layer_date: str | None = None,
    clear_mask: Sequence[str | Path] | None = None,
    report: str | Path | None = None,
    model: str | Path | None = None,
    refiner: str | None = None,
    change: float | None = None,
    memory: bool = False,
    align: bool = True,
    bands: str | Sequence[int] | None = None,
    crs: str | None = None,
    source_crs: str | None = None,
    nodata: str | float | None = None,
    run: str | Path | None = None,
    retry_failed: bool = False,
    engine: EngineName = "serial",
    workers: int | None = None,
    device: str = "auto",
    runtime: Literal["auto", "torch", "openvino"] = "auto",
    by_bands: bool = True,
    *,
    progress: Progress | None = None,
) -> Tracked:
    """Follow objects through scenes of one place: what stayed, appeared, vanished, grew or shrank, in m2.

    Args:
        scenes: a scene a date, in any order, each as `extract` takes it; or one folder, pattern in quotes, .zip or .txt
            whose rasters are the dates; or the address of a search in a STAC API, or a saved ItemCollection, whose
            items of one day (UTC) are the tiles of one scene. The first date's grid is that of all.
        out: result, a GeoPackage with the layers objects, observations and changes; None (Python) for no file.
        theme: what to look for, as for extract. Default: buildings, or the theme of `model`.
        aoi: polygons in any CRS, as for extract: objects that touch them are followed.
        dates: of the scenes, in their order, as in 2009-08-18,2012-07-31 (2009-08 and 2009 will do). Default: what
            STAC items, names or tags say.
        layer: last year's objects, any layer of polygons, or a result of track: they keep their ids, and the scenes
            say what became of them.
        layer_date: the layer's date. Default: what its name says, or the last date of a result of track.
        clear_mask: a raster for each scene, in order: 0 where clouds or their shadows hide the ground. There, objects
            are unknown, not gone.
        report: an HTML file with charts and pictures of all dates.
        model: as for extract.
        refiner: as for extract.
        change: probability that an object comes or goes between two dates. The smaller, the more it takes: a find that
            no other date bears out is left out, an object missed at one date is bridged. 0.5: each date by itself.
            Default: 0.002; where most dates are told by an index of the bands, which measures and does not guess, 0.5.
        memory: let SAM2's memory draw objects at dates where they were not found but are there; else they stay as at
            the nearest date. It was not found to help.
        align: find how far the dates lie off the first, and take that back.
        bands: as for extract; of all scenes.
        crs: CRS of the result, as in EPSG:4326; default: that of the first date.
        source_crs: CRS of scenes that state none.
        nodata: as for extract.
        run: folder for all that is made on the way: the same command goes on where it was killed, and computes a date
            that was added alone.
        retry_failed: try the windows again that failed in an earlier run in the same folder.
        engine: serial; threads: several windows at once in one process; ray: in processes of a Ray cluster, that of
            RAY_ADDRESS or one on this machine.
        workers: windows at once, with threads or ray; default: as many as there are cores.
        device: auto, cpu, cuda, cuda:1, mps.
        runtime: as for extract.
        by_bands: where all scenes have green and near infrared, find water by NDWI; false: by the theme's classifier.
        progress: told how far the work is (Python only).

    Returns:
        the objects, the observations (object and date), the changes, with summary and provenance.

    Raises:
        HybridsegError: bad input; one line that says what came, what is allowed and what to do. Nothing is written.

    Example:
        >>> track(["2009.tif", "2012.tif"], "ponds.gpkg", theme="water").objects  # doctest: +SKIP
    """
    given, days = dated_scenes(scenes, dates, one_is_enough=layer is not None)
    inputs = [*(file for scene in given for file in files_of(scene)), layer, theme, model, aoi, *(clear_mask or ())]
    for path, suffixes in ((out, [".gpkg"]), (report, [".html"])):
        if path is not None:
            check_output(path, suffixes, inputs)
    check_crs(crs, out)
    _check(change, layer, layer_date, run, retry_failed)
    asked = (theme, model, None, refiner)
    named = resolve_themes(*asked)
    if len({one.label for one in named}) < len(named):
        raise HybridsegError(f"several of {', '.join(one.name for one in named)} look for one class; give one of them")
    runner, shown = parse_engine(engine, workers), progress or Quiet()

    shown.start("open scenes", None, "")
    opened = [open_scene(one, parse_bands(bands), source_crs, nodata=parse_nodata(nodata)) for one in given]
    first = opened[days.index(min(days))]
    ground = None if aoi is None else Area.read(aoi, first)
    olds = [
        None if layer is None else OldLayer.read(layer, layer_date, first, one.label, min(days), len(named) == 1)
        for one in named
    ]
    store = open_store(run, retry_failed, False, out, inputs)

    shown.start("align dates", None, "")
    series = Series.open(opened, days, store, clear_mask, align)
    scenes_on_grid = [frame.scene for frame in series.frames]
    by_date = [resolve_themes(*asked, scene=one) if by_bands else named for one in scenes_on_grid]

    results = []
    for at, (one, old) in enumerate(zip(named, olds, strict=True)):
        surveys = [
            Survey.open(
                scene, themes[at], None, device, runtime, ground=ground, store=store, engine=runner, progress=shown
            )
            for scene, themes in zip(scenes_on_grid, by_date, strict=True)
        ]
        carry = _memory(one, scenes_on_grid, old, device, runtime) if memory else in_place
        results.append(_followed(one, surveys, series, old, change, carry))

    made = History.joined([one.history for one in results])
    summary = TrackSummary.of(
        made, series, ",".join(one.name for one in named), [note for one in results for note in one.notes],
        tuple(failure for one in results for failure in one.failures), memory, sum(one.doubtful for one in results),
    )  # fmt: skip
    request = dict(
        given=[
            full_name(one) if isinstance(one, str | Path) else scene_name(one)
            for one in ([scenes] if isinstance(scenes, str | Path) else scenes)
        ],
        scenes=[frame.name for frame in series.frames], dates=list(summary.dates),
        shifts_px=[[frame.shift.x_px, frame.shift.y_px] for frame in series.frames],
        moved=[frame.moved for frame in series.frames], layer=input_of(layer), aoi=input_of(aoi), memory=memory,
        change=[one.change for one in results], align=align, clear_mask=[str(mask) for mask in clear_mask or ()],
        crs=crs, source_crs=source_crs, nodata=nodata,
        runtime=nn.runtime.pick_runtime(runtime, nn.device.pick_device(device)),
    )  # fmt: skip
    surveys = [survey for one in results for survey in one.surveys]
    provenance = provenance_of(surveys, copyright_of(files_of(given[0])), request)
    provenance |= {"source": f"{series.frames[0].name} to {series.frames[-1].name}"}

    if out is not None:
        write_tracks(made, Path(out), provenance, crs)
        summary = replace(summary, out=str(out))
    if report is not None:
        write_page(made, series, summary, Path(report))
        summary = replace(summary, report=str(report))
    return Tracked(made.objects, made.observations, made.changes, summary, provenance)


@dataclass(frozen=True)
class _Result:
    """What is known of the objects of one theme.

    surveys: one of each theme that was looked for at some date: the bands of a date may call for another.
    doubtful: objects left out. change: as it was used.
    """

    history: History
    surveys: list[Survey]
    notes: list[str]
    failures: tuple[Any, ...]
    doubtful: int
    change: float


def _followed(
    theme: Theme, surveys: Sequence[Survey], series: Series, old: OldLayer | None, change: float | None, carry: Carry
) -> _Result:
    """Follow the objects of a theme through all dates."""
    found: list[Steps] = []
    dates = [] if old is None else [Dated(old.rows, None)]
    for survey in surveys:
        steps = survey.steps()
        dates.append(Dated(steps.features.rows, steps.heatmap, _measures(survey.theme)))
        # heatmaps are files; prompts and masks would grow with the dates
        refined = replace(steps.refined, held=steps.refined.rows.iloc[:0])
        found.append(replace(steps, load_prompts=None, refined=refined))
    if change is None:
        change = BY_INDEX if 2 * sum(_measures(survey.theme) for survey in surveys) > len(surveys) else BY_CLASSIFIER
    tracks = follow(dates)
    settled = settle(tracks, dates, theme.label, change, carry)
    days = [*([] if old is None else [old.day]), *(frame.day for frame in series.frames)]
    made = history(settled, days, _errors(series, found, old), series.frames[0].scene.crs.to_wkt(), theme.label)
    notes = [_by_bands([survey.theme for survey in surveys], theme, series), *(old.notes if old else ())]
    failures = tuple(failure for steps in found for failure in steps.failures)
    by_name = {survey.theme.name: survey for survey in surveys[::-1]}
    return _Result(made, list(by_name.values()), notes, failures, len(tracks) - len(settled), change)


def _measures(theme: Theme) -> bool:
    """Whether a theme's classifier is an index of the bands, which measures and does not guess."""
    return theme.classifier.startswith(nn.indices.PREFIX)


def _memory(theme: Theme, scenes: Sequence[Scene], old: OldLayer | None, device: str, runtime: str) -> MemoryCarry:
    """The memory of a theme's refiner; scenes by the number of their date: a layer has none, which is never asked."""
    refiner = "sam2-lite" if theme.refiner == "none" else theme.refiner
    return MemoryCarry.open(refiner, [*([] if old is None else scenes[:1]), *scenes], device, runtime)


def _check(change: float | None, layer: object, layer_date: object, run: object, retry_failed: bool) -> None:
    """Refuse settings that make no sense, or not together."""
    if change is not None and not 0 < change <= 0.5:
        raise HybridsegError(f"change is {change:g}; give a probability above 0, up to 0.5")
    if layer_date is not None and layer is None:
        raise HybridsegError("--layer-date came without --layer; give both or none")
    check_retry(run, retry_failed)


def _by_bands(themes: Sequence[Theme], named: Theme, series: Series) -> str:
    """A line on the dates at which the bands called for another theme; nothing where none did."""
    others = [str(frame.day) for frame, one in zip(series.frames, themes, strict=True) if one.name == named.name]
    said = next((by_bands_note(named, one) for one in themes if one.name != named.name), "")
    if not said or not others:
        return said
    return f"{said}; at {', '.join(others)} their values do not part clearly, and {named.classifier} finds it"


def _errors(series: Series, found: Sequence[Steps], old: OldLayer | None) -> list[Errors]:
    """What the outlines of each date are off by."""
    pixel_m = gsd_m(series.grid)
    errors = [
        Errors(OUTLINE_PX * pixel_m, OUTLINE_PX * max(pixel_m, _coarse_m(steps)), frame.left_px * pixel_m)
        for frame, steps in zip(series.frames, found, strict=True)
    ]
    # of where a layer lies nothing is known
    return errors if old is None else [replace(errors[0], place_m=OUTLINE_PX * pixel_m), *errors]


def _coarse_m(steps: Steps) -> float:
    return 0.0 if steps.heatmap is None else gsd_m(steps.heatmap.geobox)
