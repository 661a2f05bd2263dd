"""The verb `extract`: from a raster to labelled polygons."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import geopandas as gpd
import pandas as pd
import rasterio

from hybridseg.cog import SUFFIXES as RASTERS
from hybridseg.errors import HybridsegError, OutputError
from hybridseg.files import check_not_input, check_output
from hybridseg.read.opening import file_of, open_scene
from hybridseg.read.scene import Scene
from hybridseg.run.progress import Progress, Quiet
from hybridseg.run.request import check_crs, in_crs, parse_bands, parse_extent, resolve_themes, words
from hybridseg.run.result import Result, Steps
from hybridseg.run.store import Memory
from hybridseg.run.survey import Survey
from hybridseg.run.work import HEATMAPS, PROMPTS, REFINED, check_work, leave_work, start_from
from hybridseg.shape import Lines
from hybridseg.theme import SETTINGS, Theme
from hybridseg.types import Extent
from hybridseg.write.formats import FORMATS
from hybridseg.write.lineage import Provenance, file_hash
from hybridseg.write.raster import write_classes
from hybridseg.write.result import write_result

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
    prompts: str | Sequence[str] | None = None,
    from_prompts: str | Path | gpd.GeoDataFrame | None = None,
    from_refined: str | Path | None = None,
    keep_work: str | Path | None = None,
    device: str = "auto",
    as_: Literal["polygons", "lines"] = "polygons",
    shape: str | None = None,
    keep_trace: bool = False,
    *,
    progress: Progress | None = None,
) -> Result:
    """Find every object of a theme in a raster and write labelled, georeferenced polygons.

    Args:
        scene: GeoTIFF, COG or any raster that GDAL opens; 1, 3 or more bands, any size. From Python also what
            `open_scene` takes.
        out: result: .gpkg, .parquet, .fgb or .geojson for polygons, .tif for a class raster; None (Python) for no file.
        theme: what to look for: buildings, fields, roads, solar, water, or the path of a theme's YAML; several with
            commas between. Default: buildings, or the themes of `model`.
        model: folder that finetune made, or hf:OWNER/NAME on the hub, to look with instead of the theme's classifier.
        refiner: sam2-lite (embedded), sam2.1-hiera-tiny and its seven sisters (from the hub), the path of a .pt file or
            a model folder, or none for the classifier's coarse outlines; default: what measured best for the theme.
        bands: numbers of the red, green and blue bands, or of one band, as in 4,3,2.
        extent: left,bottom,right,top in the scene's CRS; objects whose middle lies inside are given, whole; water and
            roads are cut at its border.
        crs: CRS of the result, as in EPSG:4326; default: the scene's. GeoJSON is always WGS84.
        source_crs: CRS of a scene that states none (an image with a world file).
        prompts: what the refiner is told, of box,points,hint; default: what the theme says.
        from_prompts: skip the first sweep and refine these prompts: a file from --keep-work, edited or not, or any
            layer of polygons.
        from_refined: skip both sweeps: refined.parquet from --keep-work, to be gated and shaped anew.
        keep_work: folder to leave heatmap.tif, prompts.parquet and refined.parquet in; several themes leave
            heatmap-<theme>.tif each.
        device: auto, cpu, cuda, cuda:1, mps.
        as_: polygons, or lines: centrelines with width, joined into a network (roads, rivers). A GeoPackage gets the
            layers `lines` and `nodes`, other formats the lines.
        shape: how outlines are drawn: traced (along pixels), smooth (without their steps) or regular (right angles,
            rectangles); default: what suits the theme.
        keep_trace: keep the outlines as they were traced, too: in a GeoPackage a second layer, NAME_traced; in Python
            `result.traced`.
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
    if out is not None:
        check_output(out, FORMATS if as_ == "lines" else [*FORMATS, *RASTERS])
    if as_ == "lines" and (shape is not None or keep_trace):
        raise HybridsegError("--shape and --keep-trace are for polygons; leave them out, or leave out --as lines")
    layered = [suffix for suffix, format_ in FORMATS.items() if format_.many]
    if keep_trace and out is not None and Path(out).suffix.lower() not in layered:
        raise OutputError(f"{out} holds one layer, and --keep-trace writes two; write a .gpkg")
    check_crs(crs, out)
    area, themes = parse_extent(extent), resolve_themes(theme, model, prompts, refiner)
    if shape is not None:
        themes = [each.shaped(shape) for each in themes]
    inputs = _inputs(scene, theme, themes, [from_prompts, from_refined, model])
    if out is not None:
        check_not_input(out, inputs)
    if keep_work is not None:
        made = (HEATMAPS, PROMPTS, REFINED) if from_prompts is None and from_refined is None else (REFINED,)
        check_work(Path(keep_work), made, out, inputs)
    opened = open_scene(scene, bands=parse_bands(bands), crs=source_crs)
    # GDAL would keep a twentieth of the memory for decoded blocks; windows pass once, so little is enough
    cache = {} if "GDAL_CACHEMAX" in os.environ else {"GDAL_CACHEMAX": GDAL_CACHE_BYTES}
    with rasterio.Env(**cache):
        surveys = open_surveys(opened, themes, device, progress or Quiet())
        steps = start_from(surveys, from_prompts, from_refined, area)
        if keep_work is not None:
            leave_work(steps, Path(keep_work))
        result = Result.of(opened.name, steps)
        if keep_trace:
            result = replace(result, traced=_traced(result.features, surveys, steps, area))
    provenance = _provenance(
        surveys, extent=area, crs=crs, source_crs=source_crs, as_=as_, shape=shape,
        from_prompts=_input(from_prompts), from_refined=_input(from_refined),
    )  # fmt: skip
    if as_ == "lines":
        return _lines(result, steps, out, crs, provenance)
    return _polygons(result, surveys, out, crs, provenance)


def open_surveys(scene: Scene, themes: Sequence[Theme], device: str, progress: Progress) -> list[Survey]:
    """Open a survey for each theme; they share one store, so that themes with one classifier share its heatmap.

    Args:
        scene: what to look at.
        themes: what to look for.
        device: auto, cpu, cuda, cuda:1, mps.
        progress: told how far the work is.
    """
    store, reach_m = Memory(), max(theme.objects.reach_m for theme in themes)
    return [
        Survey.open(scene, theme, device=device, store=store, progress=progress, reach_m=reach_m) for theme in themes
    ]


def _polygons(
    result: Result, surveys: Sequence[Survey], out: str | Path | None, crs: str | None, provenance: dict
) -> Result:
    features = in_crs(result.features, crs)
    traced = None if result.traced is None else in_crs(result.traced, crs)
    if out is not None and Path(out).suffix.lower() in RASTERS:
        labels = list(dict.fromkeys(survey.theme.label for survey in surveys))
        write_classes(features, out, surveys[0].scene.geobox, labels, provenance)
    elif out is not None:
        write_result(features, out, provenance, traced=traced)
    return replace(_finished(result, features, out, provenance), traced=traced)


def _traced(
    features: gpd.GeoDataFrame, surveys: Sequence[Survey], steps: Sequence[Steps], area: Extent | None
) -> gpd.GeoDataFrame:
    """Return the same objects with the outlines that they were shaped from."""
    plain = [replace(survey, theme=survey.theme.shaped("traced")) for survey in surveys]
    rows = [survey.features(step.refined, area).rows for survey, step in zip(plain, steps, strict=True)]
    drawn = pd.concat(rows, ignore_index=True).set_index("id").loc[features["id"]].reset_index()
    return features.assign(area_m2=drawn["area_m2"].to_numpy()).set_geometry(drawn.geometry.set_axis(features.index))


def _lines(result: Result, steps: Sequence[Steps], out: str | Path | None, crs: str | None, provenance: dict) -> Result:
    stage = next((step.theme.shape for step in steps if isinstance(step.theme.shape, Lines)), Lines())
    heatmaps = {step.theme.label: step.heatmap for step in steps if step.heatmap is not None}
    network = stage.network(result.features, heatmaps)
    lines, nodes = in_crs(network.lines, crs), in_crs(network.nodes, crs)
    if out is not None:
        write_result(lines, out, provenance, nodes=nodes)
    return replace(_finished(result, lines, out, provenance), nodes=nodes)


def _finished(result: Result, features: gpd.GeoDataFrame, out: object, provenance: Mapping[str, Any]) -> Result:
    summary = replace(result.summary, out=None if out is None else str(out), features=len(features))
    return Result(features, summary, provenance)


def _provenance(surveys: Sequence[Survey], **request: Any) -> dict[str, Any]:
    """What made the result: the request with every choice resolved, so that the run can be repeated."""
    scene = surveys[0].scene
    models = {name: sha for survey in surveys for name, sha in survey.models.hashes.items()}
    asked = {
        "scene": scene.name,
        "bands": list(scene.bands),
        "themes": [survey.theme.to_yaml() for survey in surveys],
        "refiners": [survey.models.refiner_name for survey in surveys],
        **request,
    }
    return Provenance.collect(
        request=asked, models=models, source=scene.name, source_fingerprint=scene.fingerprint
    ).to_dict()


def _input(source: str | Path | gpd.GeoDataFrame | None) -> dict[str, str] | None:
    """An input of prompts or masks, with the hash of its content."""
    if source is None:
        return None
    if isinstance(source, gpd.GeoDataFrame):
        return {"name": "a GeoDataFrame", "sha256": ""}
    return {"name": str(source), "sha256": file_hash(source) if Path(source).is_file() else ""}


def _inputs(scene: Any, theme: Any, themes: Sequence[Theme], others: Sequence[object]) -> list[object]:
    """All that a run reads, as `check_not_input` takes it."""
    files = [word for word in words(theme) if word.endswith(SETTINGS)]
    networks = [network for t in themes for network in (t.classifier, t.refiner)]
    return [file_of(scene), *files, *networks, *others]
