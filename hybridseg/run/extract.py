"""The verb `extract`: from a raster to labelled polygons."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import geopandas as gpd
import rasterio

from hybridseg import nn
from hybridseg.errors import HybridsegError, WeightsError
from hybridseg.files import check_not_input
from hybridseg.read.part import ScenePart, open_part
from hybridseg.run.engine import Engine
from hybridseg.run.output import Output
from hybridseg.run.progress import Progress, Quiet
from hybridseg.run.provenance import input_of, provenance_of
from hybridseg.run.request import (
    check_gsd,
    parse_bands,
    parse_cache,
    parse_engine,
    parse_extent,
    parse_nodata,
    words,
)
from hybridseg.run.result import Result
from hybridseg.run.store import Memory, Store
from hybridseg.run.survey import Survey
from hybridseg.run.themes import by_bands_note, resolve_themes
from hybridseg.run.work import open_run, start_from
from hybridseg.theme import SETTINGS, Theme
from hybridseg.types import Extent
from hybridseg.what.given import GivenHeatmap, open_heatmap

GDAL_CACHE_BYTES = 256 << 20


def extract(
    scene: Any,
    out: str | Path | None = None,
    theme: str | Path | Sequence[str] | None = None,
    model: str | Path | None = None,
    refiner: str | None = None,
    bands: str | Sequence[int] | None = None,
    extent: str | Extent | None = None,
    crs: str | None = None,
    source_crs: str | None = None,
    nodata: str | float | None = None,
    aoi: str | Path | gpd.GeoDataFrame | None = None,
    gsd: float | None = None,
    attribution: str | None = None,
    prompts: str | Sequence[str] | None = None,
    heatmap: str | Path | None = None,
    from_prompts: str | Path | gpd.GeoDataFrame | None = None,
    run: str | Path | None = None,
    retry_failed: bool = False,
    cache: str | Path | None = None,
    engine: Literal["serial", "threads"] = "serial",
    workers: int | None = None,
    device: str = "auto",
    runtime: Literal["auto", "torch", "openvino"] = "auto",
    as_: Literal["polygons", "lines"] = "polygons",
    stac: bool = False,
    schema: Literal["hybridseg", "overture", "fiboa"] = "hybridseg",
    shape: str | None = None,
    keep_trace: bool = False,
    by_bands: bool = True,
    *,
    progress: Progress | None = None,
) -> Result:
    """Find every object of a theme in a raster and write labelled, georeferenced polygons.

    Args:
        scene: GeoTIFF, COG or any raster that GDAL opens; 1, 3 or more bands, any size. A folder, a pattern in quotes
            ('tiles/*.tif'), a .zip or a .txt with a path a line: tiles, seen as one scene. A STAC Item or
            ItemCollection (.json, also a URL), or the address of a search. From Python also what `open_scene` takes.
        out: result: .gpkg, .parquet, .fgb or .geojson for polygons, .tif for a class raster; None (Python) for no file.
        theme: what to look for: buildings, fields, roads, solar, water, or the path of a theme's YAML; several with
            commas between. Default: buildings, or the themes of `model`.
        model: folder that finetune made, or hf:OWNER/NAME on the hub, to look with instead of the theme's classifier;
            or a spectral index with a theme beside it: index:ndwi, index:(green - nir) / (green + nir)@0.1,20.
        refiner: sam2-lite (embedded), sam2.1-hiera-tiny and its seven sisters (from the hub), edgetam, the path of a
            .pt file or a model folder, or none for the classifier's coarse outlines; default: what measured best for
            the theme.
        bands: numbers of the red, green and blue bands, or of one band, as in 4,3,2; or names with numbers, as in
            red=1,green=2,blue=3,nir=4.
        extent: left,bottom,right,top in the scene's CRS; objects whose middle lies inside are given, whole; water and
            roads are cut at its border.
        crs: CRS of the result, as in EPSG:4326; default: the scene's. GeoJSON is always WGS84.
        source_crs: CRS of a scene that states none (an image with a world file).
        nodata: value of pixels without data, where the scene does not state it. An even collar in black or white along
            the border is found without it, and said; none keeps that ground.
        aoi: polygons in any CRS: a vector file, or a GeoDataFrame. Ground away from them is not looked at; objects that
            touch them are given, whole; water and roads are cut at their borders.
        gsd: metres a pixel in which to see the scene. For a web map service (GDAL's XML description of WMS, WMTS or XYZ
            tiles, a local file), whose pixels have any size; needs extent or aoi there.
        attribution: who must be named for the imagery, as in '(c) City of Graz, CC-BY-4.0'; stands in the result.
            Default: what the raster says in its copyright tag.
        prompts: what the refiner is told, of box,points,hint; default: what the theme says.
        heatmap: raster of probabilities to use instead of a classifier: heatmap.tif of a run, or any other model's;
            bytes (0 to 255) or floats (0 to 1), a band a class, described by its name (`building`, or
            `building:extent` and `building:interior`); on any grid, in any CRS.
        from_prompts: skip the first sweep and refine these prompts: prompts.parquet of a run, edited or not, or any
            layer of polygons.
        run: folder for all that is made on the way. The same command goes on where it was killed; with other settings
            it uses again what they do not touch; started several times, on one machine or on several that share the
            folder, the processes divide the work. It leaves heatmap.tif, prompts.parquet and refined.parquet for a
            look; several themes leave heatmap-<theme>.tif each.
        retry_failed: try the windows again that failed in an earlier run in the same folder.
        cache: folder for SAM2's embeddings, to be shared by runs over the same imagery: 4 GiB at most, the least
            recently used go first. Default: none are kept.
        engine: serial, or threads: several windows at once in one process.
        workers: windows at once, with threads; default: as many as there are cores.
        device: auto, cpu, cuda, cuda:1, mps.
        runtime: what computes the networks: auto takes openvino where the device is a CPU and a network converts (once;
            it is kept in the user's cache), else torch; the summary says which it was.
        as_: polygons, or lines: centrelines with width, joined into a network (roads, rivers). A GeoPackage gets the
            layers `lines` and `nodes`, other formats the lines.
        schema: columns of the file: ours, those of Overture Maps (buildings, .parquet) or of fiboa (fields, .parquet).
        stac: whether a STAC Item is written beside the result, as `<name>.stac.json`.
        shape: how outlines are drawn: traced (along pixels), smooth (without their steps) or regular (right angles,
            rectangles); default: what suits the theme.
        keep_trace: keep the outlines as they were traced, too: in a GeoPackage a second layer, NAME_traced; in Python
            `result.traced`.
        by_bands: where the scene has green and near infrared, find water by NDWI; false: by the theme's own classifier.
        progress: told how far the work is (Python only).

    Returns:
        the features, in the scene's CRS (or `crs`): id, class, score, origin (refined or coarse), iou_pred, stability,
        agreement, area_m2, geometry, and score_raw where the score is calibrated; as lines: id, class, score, width_m,
        length_m, from_node, to_node, geometry, and the nodes. With the run's summary and provenance.

    Raises:
        HybridsegError: bad input; one line that says what came, what is allowed and what to do. Nothing is written.

    Example:
        >>> result = extract("town.tif", "town.gpkg", theme="buildings")  # doctest: +SKIP
        >>> result.features.head()  # doctest: +SKIP
    """
    _check_alone(extent=extent, aoi=aoi)
    _check_alone(heatmap=heatmap, from_prompts=from_prompts)
    asked = (theme, model, prompts, refiner, shape)
    named = resolve_themes(*asked)
    output = Output(None if out is None else Path(out), crs, as_, shape, keep_trace, schema, stac)
    output.check(named)
    runner, kept, shown = parse_engine(engine, workers), parse_cache(cache), progress or Quiet()
    if run is None and retry_failed:
        raise HybridsegError("--retry-failed goes with --run: without it nothing is remembered; leave it out")

    shown.start("open scene", None, "")
    part = open_part(
        scene, parse_bands(bands), source_crs, parse_nodata(nodata), parse_extent(extent), aoi, check_gsd(gsd)
    )
    inputs = [*part.files, *_inputs(theme, named), heatmap, from_prompts, model, aoi]
    if out is not None:
        check_not_input(out, inputs)
    store = Memory() if run is None else open_run(Path(run), retry_failed, from_prompts is None, out, inputs)

    with rasterio.Env(**_gdal()):
        shown.start("load models", None, "")
        swept = heatmap is None and from_prompts is None
        themes = resolve_themes(*asked, scene=part.scene) if by_bands and swept else named
        surveys = open_surveys(part, themes, device, shown, store, runner, kept, runtime, heatmap)
        steps = start_from(surveys, from_prompts)
        result = _computed(Result.of(part.scene, steps), surveys)
        result = result.noting([by_bands_note(*pair) for pair in zip(named, themes, strict=True)])
        result = output.form(result, surveys, steps)

    request = dict(
        extent=parse_extent(extent), aoi=input_of(aoi), crs=crs, source_crs=source_crs, nodata=nodata, gsd=gsd, as_=as_,
        stac=stac, schema=schema, shape=shape, keep_trace=keep_trace, heatmap=input_of(heatmap),
        from_prompts=input_of(from_prompts), runtime=nn.runtime.pick_runtime(runtime, nn.device.pick_device(device)),
    )  # fmt: skip
    result = replace(result, provenance=provenance_of(surveys, attribution or part.copyright, request))
    if run is None:
        del steps  # the masks take as much memory as the features
        return output.write(result)
    with store.claim("result", wait=True):  # several processes may be here at once
        return output.write_once(result, steps, Path(run), store)


def _check_alone(**given: object) -> None:
    """Refuse two settings of which one says what the other does."""
    if all(value is not None for value in given.values()):
        flags = " and ".join(f"--{name.replace('_', '-')}" for name in given)
        raise HybridsegError(f"{flags} came together; give one of them")


def open_surveys(
    part: ScenePart,
    themes: Sequence[Theme],
    device: str,
    progress: Progress,
    store: Store,
    engine: Engine,
    cache: Path | None,
    runtime: str,
    heatmap: str | Path | None = None,
) -> list[Survey]:
    """Open a survey for each theme; they share one store, so that themes with one classifier share its heatmap.

    Args:
        part: what to look at.
        themes: what to look for.
        device: auto, cpu, cuda, cuda:1, mps.
        progress: told how far the work is.
        store: remembers what is made.
        engine: runs the tasks.
        cache: folder for embeddings.
        runtime: auto, torch, openvino.
        heatmap: stands in for the classifiers.
    """
    reach_m = max(theme.objects.reach_m for theme in themes)
    wanted = {theme.label: (theme.name,) for theme in themes}
    given = None if heatmap is None else open_heatmap(heatmap, part.scene.crs, wanted, store)
    return [
        Survey.open(
            part.scene,
            theme,
            None,
            device,
            runtime,
            ground=part.ground,
            store=store,
            engine=engine,
            progress=progress,
            reach_m=reach_m,
            cache=cache,
            given=_carded(given, theme),
        )
        for theme in themes
    ]


def _carded(given: GivenHeatmap | None, theme: Theme) -> GivenHeatmap | None:
    """A heatmap with the card of the theme's classifier, which says what scores mean, where that made it."""
    if given is None or given.made_by is None:
        return given
    try:
        folder = nn.cards.model_folder(theme.classifier)
    except WeightsError:
        return given
    own = nn.cards.sha256(folder / "weights.safetensors") == given.made_by
    return replace(given, card=nn.cards.read_card(folder)) if own else given


def _computed(result: Result, surveys: Sequence[Survey]) -> Result:
    """Say what computed the networks, and what a user should know of their masks."""
    runners = dict.fromkeys(runner for survey in surveys for runner in survey.models.runners)
    refiners = dict.fromkeys(survey.models.refiner for survey in surveys if survey.models.refiner is not None)
    notes = [note for refiner in refiners for note in refiner.take_notes()]
    summary, by = result.summary, nn.runtime.summarise(list(runners))
    return replace(result, summary=replace(summary, runtime=by, notes=(*summary.notes, *notes)))


def _inputs(theme: str | Path | Sequence[str] | None, themes: Sequence[Theme]) -> list[object]:
    """The files of themes and networks that a run reads, as `check_not_input` takes them."""
    files = [word for word in words(theme) if word.endswith(SETTINGS)]
    return [*files, *(network for one in themes for network in (one.classifier, one.refiner))]


def _gdal() -> dict[str, int]:
    """GDAL keeps a twentieth of the memory for decoded blocks; windows pass once, so little is enough."""
    return {} if "GDAL_CACHEMAX" in os.environ else {"GDAL_CACHEMAX": GDAL_CACHE_BYTES}
