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
from hybridseg.read.given import open_heatmap
from hybridseg.read.part import open_part
from hybridseg.read.paths import full_name
from hybridseg.read.prompts import read_prompts
from hybridseg.run.output import Output
from hybridseg.run.progress import Progress, Quiet
from hybridseg.run.provenance import input_of
from hybridseg.run.request import (
    EngineName,
    check_alone,
    check_retry,
    parse_bands,
    parse_cache,
    parse_engine,
    parse_extent,
    parse_nodata,
)
from hybridseg.run.result import Result
from hybridseg.run.themes import by_bands_note, files_named, resolve_themes
from hybridseg.run.work import Tools, open_store, open_surveys, provenance_of, start_from
from hybridseg.types import Extent

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
    engine: EngineName = "serial",
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
        gsd: metres a pixel in which to see the scene, at the finest a tenth of its own. For a web map service (GDAL's
            XML description of WMS, WMTS or XYZ tiles, a local file), whose pixels have any size; needs extent or aoi
            there.
        attribution: who must be named for the imagery, as in '(c) City of Graz, CC-BY-4.0'; stands in the result.
            Default: what the raster says in its copyright tag.
        prompts: what the refiner is told, of box,points,hint; default: what the theme says.
        heatmap: raster of probabilities to use instead of a classifier: heatmap.tif of a run, or any other model's;
            bytes (0 to 255) or floats (0 to 1), a band a class, described by its name (`building`, or
            `building:extent` and `building:interior`); on any grid, in any CRS.
        from_prompts: skip the first sweep and refine these prompts: prompts.parquet of a run, edited or not, or any
            layer of polygons.
        run: folder for all that is made on the way, or s3://BUCKET/RUN. The same command goes on where it was killed;
            with other settings it uses again what they do not touch; started several times, on one machine or on
            several that share the folder, the processes divide the work. It leaves heatmap.tif, prompts.parquet and
            refined.parquet for a look; several themes leave heatmap-<theme>.tif each.
        retry_failed: try the windows again that failed in an earlier run in the same folder.
        cache: folder for SAM2's embeddings, to be shared by runs over the same imagery: 4 GiB at most, the least
            recently used go first. Default: none are kept.
        engine: serial; threads: several windows at once in one process; ray: in processes of a Ray cluster, that of
            RAY_ADDRESS or one on this machine.
        workers: windows at once, with threads or ray; default: as many as there are cores.
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
    check_alone(extent=extent, aoi=aoi)
    check_alone(heatmap=heatmap, from_prompts=from_prompts)
    check_retry(run, retry_failed)
    asked = (theme, model, prompts, refiner, shape)
    named = resolve_themes(*asked)
    output = Output(None if out is None else Path(out), crs, as_, shape, keep_trace, schema, stac)
    output.check(named)
    tools = Tools(device, runtime, parse_engine(engine, workers), parse_cache(cache), progress or Quiet())

    tools.progress.start("open scene", None, "")
    part = open_part(scene, parse_bands(bands), source_crs, parse_nodata(nodata), parse_extent(extent), aoi, gsd)
    inputs = [*part.files, *files_named(theme, named), heatmap, from_prompts, model, aoi]
    store = open_store(run, retry_failed, from_prompts is None, out, inputs)
    names = {one.label: (one.name,) for one in named}
    swept = None if heatmap is None else open_heatmap(heatmap, part.scene.crs, names, store)
    found = None if from_prompts is None else read_prompts(from_prompts, [one.label for one in named], part.scene)
    request = dict(
        scene=full_name(scene) if isinstance(scene, str | Path) else part.scene.name,
        extent=parse_extent(extent), aoi=input_of(aoi), crs=crs, source_crs=source_crs, nodata=nodata, gsd=gsd, as_=as_,
        stac=stac, schema=schema, shape=shape, keep_trace=keep_trace, heatmap=input_of(heatmap),
        from_prompts=input_of(from_prompts), runtime=nn.runtime.pick_runtime(runtime, nn.device.pick_device(device)),
    )  # fmt: skip

    with rasterio.Env(**_gdal()):
        tools.progress.start("load models", None, "")
        themes = resolve_themes(*asked, scene=part.scene) if by_bands and not (swept or found) else named
        surveys = open_surveys(part, themes, tools, store, swept)
        steps = start_from(surveys, found)
        result = output.form(surveys, steps, [by_bands_note(*pair) for pair in zip(named, themes, strict=True)])
    result = replace(result, provenance=provenance_of(surveys, attribution or part.copyright, request))
    if run is None:
        steps.clear()  # the masks take as much memory as the features
    return output.write(result, steps, store)


def _gdal() -> dict[str, int]:
    """GDAL keeps a twentieth of the memory for decoded blocks; windows pass once, so little is enough."""
    return {} if "GDAL_CACHEMAX" in os.environ else {"GDAL_CACHEMAX": GDAL_CACHE_BYTES}
