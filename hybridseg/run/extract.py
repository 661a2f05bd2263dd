"""The verb `extract`: from a raster to labelled polygons."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import geopandas as gpd
import pandas as pd
import rasterio

from hybridseg.errors import OutputError, ThemeError, TooCoarse
from hybridseg.files import check_output
from hybridseg.read.source import Source
from hybridseg.run.arguments import parse_bands, parse_extent
from hybridseg.run.engine import Progress, Quiet
from hybridseg.run.model import calibrated, calibration_of, check_label, themes_in
from hybridseg.run.pipeline import Counts, Extent, Pipeline
from hybridseg.run.policies import label_everything
from hybridseg.run.sight import look_through
from hybridseg.run.summary import Summary
from hybridseg.shape.centreline import Centrelines
from hybridseg.theme import Theme, load_theme
from hybridseg.what.classify import Network
from hybridseg.what.prompts import read_prompts, write_prompts
from hybridseg.write.formats import FORMATS
from hybridseg.write.lineage import Provenance, file_hash
from hybridseg.write.raster import SUFFIXES as RASTERS
from hybridseg.write.raster import write_classes
from hybridseg.write.result import write_result

PARTS = ("box", "points", "hint")
GDAL_CACHE_BYTES = 256 << 20


def extract(
    scene: str | Path,
    out: str | Path | None,
    theme: str | Path | Sequence[str] | None = None,
    model: str | Path | None = None,
    refiner: str | None = None,
    bands: str | Sequence[int] | None = None,
    extent: str | Extent | None = None,
    crs: str | None = None,
    source_crs: str | None = None,
    prompts: str | Sequence[str] | None = None,
    from_prompts: str | Path | None = None,
    keep_work: str | Path | None = None,
    device: str = "auto",
    as_: Literal["polygons", "lines"] = "polygons",
    *,
    progress: Progress | None = None,
) -> gpd.GeoDataFrame:
    """Find every object of a theme in a raster and write labelled, georeferenced polygons.

    Args:
        scene: GeoTIFF, COG or any raster that GDAL opens; 1, 3 or more bands, any size.
        out: result: .gpkg, .parquet, .fgb or .geojson for polygons, .tif for a class raster; None (Python) for no file.
        theme: what to look for: buildings, fields, roads, solar, water, or the path of a theme's YAML; several with
            commas between. Default: buildings, or the themes of `model`.
        model: folder that finetune made, or hf:OWNER/NAME on the hub, to look with instead of the theme's classifier.
        refiner: sam2-lite (embedded), sam2.1-hiera-tiny and its seven sisters (from the hub), the path of a .pt file or
            a model folder, or none for the classifier's coarse outlines; default: what measured best for the theme.
        bands: numbers of the red, green and blue bands, or of one band, as in 4,3,2.
        extent: left,bottom,right,top in the scene's CRS; objects whose middle lies inside are given, whole.
        crs: CRS of the result, as in EPSG:4326; default: the scene's. GeoJSON is always WGS84.
        source_crs: CRS of a scene that states none (an image with a world file).
        prompts: what the refiner is told, of box,points,hint; default: what the theme says.
        from_prompts: skip the first sweep and refine these prompts: a file from --keep-work, edited or not, or any
            layer of polygons.
        keep_work: folder to leave heatmap.tif and prompts.parquet in; several themes leave heatmap-<theme>.tif each.
        device: auto, cpu, cuda, cuda:1, mps.
        as_: polygons, or lines: centrelines with width, joined into a network (roads, rivers). A GeoPackage gets the
            layers `lines` and `nodes`, other formats the lines.
        progress: told how far the work is (Python only).

    Returns:
        The features, in the scene's CRS (or `crs`): id, class, score, origin (refined or coarse), iou_pred, stability,
        agreement, area_m2, geometry; as lines: id, class, score, width_m, length_m, from_node, to_node, geometry, with
        the nodes in `.attrs["nodes"]`. `.attrs["summary"]` holds the counts, `.attrs["provenance"]` what made them.

    Raises:
        HybridsegError: bad input; one line that says what came, what is allowed and what to do. Nothing is written.

    Example:
        >>> features = extract("town.tif", "town.gpkg", theme="buildings")  # doctest: +SKIP
    """
    if out is not None:
        read = [scene, from_prompts, *(name for name in _names(theme or "none") if name.endswith((".yaml", ".yml")))]
        check_output(out, FORMATS if as_ == "lines" else [*FORMATS, *RASTERS], read)
    themes = [_with_parts(t, prompts) for t in _themes(theme, model)]
    if len({t.name for t in themes}) < len(themes):
        raise ThemeError(f"themes {', '.join(t.name for t in themes)} share a name; give each a `name:` of its own")
    area = None if extent is None else parse_extent(extent)
    source = Source.open(scene, parse_bands(bands), source_crs)
    if crs is not None:
        _check_crs(crs, out)

    # torch is imported here and not above: `hybridseg --help` must not wait for it
    from hybridseg.nn.classifier import load_classifier
    from hybridseg.nn.refiners import load_refiner

    counts = Counts()
    refiners = {n: load_refiner(n, device) for n in {refiner or t.refiner for t in themes} - {"none"}}
    classifiers = {name: load_classifier(name, device) for name in {t.classifier: None for t in themes}}
    models = {r.name: r.sha256 for r in refiners.values()} | {c.name: c.sha256 for c in classifiers.values()}
    # GDAL would keep a twentieth of the memory for decoded blocks; windows pass once, so little is enough
    cache = {} if "GDAL_CACHEMAX" in os.environ else {"GDAL_CACHEMAX": GDAL_CACHE_BYTES}
    with _work_folder(keep_work) as work, _work_folder(None) as kept, rasterio.Env(**cache):
        sights = [
            look_through(t, source, classifiers[t.classifier], refiners.get(refiner or t.refiner), kept) for t in themes
        ]
        pipelines = [
            Pipeline(t, s.refiner, grid=s.grid, progress=progress or Quiet())
            for t, s in zip(themes, sights, strict=True)
        ]
        networks = {t.name: s.network for t, s in zip(themes, sights, strict=True)}
        heatmaps: dict[str, Path] = {}
        tables = {name: calibration_of(c.card) for name, c in classifiers.items()}
        if from_prompts is None:
            heatmaps = _heatmaps(pipelines, networks, source, area, work, counts)
            found = [p.prompts(source, heatmaps[p.theme.name], area, counts) for p in pipelines]
            write_prompts(pd.concat(found, ignore_index=True), work / "prompts.parquet")
        else:
            every = read_prompts(Path(from_prompts), themes[0].label, source.crs)
            found = [every[every["class"] == t.label].reset_index(drop=True) for t in themes]
            tables = tables if every.attrs["scored"] else {}
        layers = []
        for pipeline, rows in zip(pipelines, found, strict=True):
            outcome = pipeline.refine(source, rows, counts)
            if pipeline.theme.name in heatmaps:
                rows, outcome = label_everything(pipeline.theme, source, heatmaps[pipeline.theme.name], rows, outcome)
            features = pipeline.features(source, rows, outcome, counts, area)
            layers.append(calibrated(features, tables.get(pipeline.theme.classifier, {})))
    features = gpd.GeoDataFrame(pd.concat(layers, ignore_index=True), crs=source.crs)
    provenance = Provenance.collect(
        request={
            "scene": scene,
            "themes": {t.name: t.to_yaml() for t in themes},
            "refiners": {t.name: refiner or t.refiner for t in themes},
            "bands": parse_bands(bands),
            "extent": area,
            "crs": crs,
            "source_crs": source_crs,
            "prompts_file": from_prompts,
            "prompts_sha256": None if from_prompts is None else file_hash(from_prompts),
            "as": as_,
        },
        models=models,
        source=str(scene),
        source_fingerprint=source.fingerprint,
    ).to_dict()
    if as_ == "lines":
        features = _as_lines(features, out, provenance, crs)
    else:
        if out is not None:
            _write(features, Path(out), source, [t.label for t in themes], provenance, crs)
        features = features if crs is None else features.to_crs(crs)
    summary = _summary(str(scene), out, themes, list(refiners), counts, len(features))
    features.attrs |= {"summary": summary, "provenance": provenance}
    return features


def _as_lines(
    features: gpd.GeoDataFrame, out: str | Path | None, provenance: dict, crs: str | None
) -> gpd.GeoDataFrame:
    network = Centrelines()(features)
    lines, nodes = (layer if crs is None else layer.to_crs(crs) for layer in (network.lines, network.nodes))
    if out is not None:
        write_result(lines, out, provenance, nodes=nodes)
    lines.attrs["nodes"] = nodes
    return lines


def _themes(theme: str | Path | Sequence[str] | None, model: str | Path | None) -> list[Theme]:
    if model is None:
        return [load_theme(name) for name in _names(theme or "buildings")]
    if theme is None:
        return themes_in(model)
    return [load_theme(name).model_copy(update={"classifier": str(model)}) for name in _names(theme)]


def _names(theme: str | Path | Sequence[str]) -> list[str]:
    names = [n.strip() for n in theme.split(",")] if isinstance(theme, str) else theme
    names = [str(n) for n in ([names] if isinstance(names, Path) else names)]
    if not all(names) or len(set(names)) < len(names):
        raise ThemeError(f"theme is {','.join(names)!r}; give names with commas between, each once")
    return names


def _heatmaps(
    pipelines: Sequence[Pipeline],
    networks: Mapping[str, Network],
    source: Source,
    area: Extent | None,
    work: Path,
    counts: Counts,
) -> dict[str, Path]:
    """Heatmap of each theme, by its name; themes that look with one network at one GSD share one sweep."""
    sweeps: dict[tuple[str, float, bool], list[Pipeline]] = {}
    for pipeline in pipelines:
        theme = pipeline.theme
        network = networks[theme.name]
        check_label(theme, network.classes)
        _check_gsd(source, theme.max_gsd_m or network.coarsest_gsd_m, theme)
        look = theme.classifier, theme.gsd_m(source.gsd_m, network.gsd_m), pipeline.grid is not None
        sweeps.setdefault(look, []).append(pipeline)
    made: dict[str, Path] = {}
    for (_, gsd_m, _), sharing in sweeps.items():
        names = [p.theme.name for p in sharing]
        path = work / ("heatmap.tif" if len(pipelines) == 1 else f"heatmap-{'-'.join(names)}.tif")
        reach_m = max(p.theme.objects.reach_m for p in sharing)
        sharing[0].heatmap(source, networks[names[0]], gsd_m, area, path, counts, reach_m)
        made |= dict.fromkeys(names, path)
    return made


def _write(
    features: gpd.GeoDataFrame, out: Path, source: Source, labels: list[str], provenance: dict, crs: str | None
) -> None:
    if out.suffix.lower() in RASTERS:
        write_classes(features, out, source.geobox, list(dict.fromkeys(labels)), provenance)
    else:
        write_result(features, out, provenance, crs)


def _summary(
    scene: str, out: object, themes: list[Theme], refiners: list[str], counts: Counts, features: int
) -> Summary:
    return Summary(
        scene=scene,
        out=None if out is None else str(out),
        theme=",".join(t.name for t in themes),
        refiner=",".join(refiners) or "none",
        windows_classified=counts.windows_classified,
        windows_in_raster=counts.windows_in_raster,
        windows_refined=counts.windows_refined,
        prompts=counts.prompts,
        refined=counts.refined,
        coarse=counts.prompts - counts.refined,
        overlapping=counts.overlapping,
        features=features,
        seconds={name: round(value, 2) for name, value in counts.seconds.items()},
        failures=tuple(counts.failures),
    )


def _with_parts(theme: Theme, parts: str | Sequence[str] | None) -> Theme:
    if parts is None:
        return theme
    chosen = [p.strip() for p in parts.split(",")] if isinstance(parts, str) else list(parts)
    if not chosen or set(chosen) - set(PARTS):
        raise ThemeError(f"prompts are {','.join(chosen)!r}; give some of {','.join(PARTS)}")
    return theme.with_prompts(parts=frozenset(chosen))


def _check_crs(crs: str, out: str | Path | None) -> None:
    if out is not None and Path(out).suffix.lower() in RASTERS:
        raise OutputError(f"{out} is a class raster, which keeps the scene's grid; leave out --crs, or write vectors")
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        CRS.from_user_input(crs)
    except CRSError as error:
        raise OutputError(f"the CRS {crs!r} is unknown; give an EPSG code, e.g. --crs EPSG:4326") from error


def _check_gsd(source: Source, coarsest_m: float, theme: Theme) -> None:
    # a tenth to spare: 0.6 m imagery in a projected CRS may measure 0.62 m on the ground
    if source.gsd_m > 1.1 * coarsest_m:
        raise TooCoarse(
            f"{source.path} has {source.gsd_m:.2g} m pixels; theme {theme.name} needs {coarsest_m:g} m or finer: "
            "use finer imagery or a theme whose model was trained on yours"
        )


@contextmanager
def _work_folder(keep: str | Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="hybridseg-") as folder:
            yield Path(folder)
        return
    try:
        Path(keep).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {keep} for the heatmap and prompts: {error.strerror}") from error
    yield Path(keep)
