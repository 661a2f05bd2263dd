"""What a user wants of a result: polygons or lines, their CRS and columns, and the file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import geopandas as gpd
import pandas as pd

from hybridseg import nn
from hybridseg.cog import SUFFIXES as RASTERS
from hybridseg.errors import HybridsegError, OutputError
from hybridseg.files import check_output
from hybridseg.run.request import check_crs, in_crs
from hybridseg.run.result import Result, Steps
from hybridseg.run.store import Store, file_stamp, key_of
from hybridseg.run.survey import Survey
from hybridseg.run.work import write_steps
from hybridseg.shape import Lines
from hybridseg.theme import Theme
from hybridseg.write.formats import FORMATS
from hybridseg.write.raster import write_classes
from hybridseg.write.result import check_for_qgis, write_result
from hybridseg.write.schemas import SCHEMAS, check_schema, write_schema
from hybridseg.write.stac import item_beside, item_path


@dataclass(frozen=True)
class Output:
    """The form of a result, and its file; the fields are those of `extract`.

    out: path of the file, whose suffix says the format; None for none.
    """

    out: Path | None
    crs: str | None = None
    as_: str = "polygons"
    shape: str | None = None
    keep_trace: bool = False
    schema: str = "hybridseg"
    stac: bool = False

    def check(self, themes: Sequence[Theme]) -> None:
        """Check that it can be made and written: to be asked before hours of work.

        Raises:
            HybridsegError: settings that exclude each other.
            OutputError: a file that cannot be written so.
        """
        lines = self.as_ == "lines"
        if lines and (self.shape is not None or self.keep_trace):
            raise HybridsegError("--shape and --keep-trace are for polygons; leave them out, or leave out --as lines")
        if self.out is not None:
            check_output(self.out, FORMATS if lines else [*FORMATS, *RASTERS])
            check_for_qgis(self.out)
        layered = [suffix for suffix, format_ in FORMATS.items() if format_.many]
        if self.keep_trace and self.out is not None and self.out.suffix.lower() not in layered:
            raise OutputError(f"{self.out} holds one layer, and --keep-trace writes two; write a .gpkg")
        check_crs(self.crs, self.out)
        if self.stac:
            if self.out is None:
                raise OutputError("a STAC Item stands beside a file; give out, too")
            item_path(self.out)
        if self.schema in SCHEMAS:
            check_schema(self.schema, self.out, ["lines"] if lines else [theme.label for theme in themes])

    def form(self, surveys: Sequence[Survey], steps: Sequence[Steps], notes: Sequence[str] = ()) -> Result:
        """Return a result as polygons, with the traced ones where they are kept, or as lines; in the CRS asked for.

        Args:
            surveys: one for each theme.
            steps: what they made.
            notes: what a user should know besides, a line each; empty ones are left out.
        """
        result = Result.of(surveys[0].scene, steps)
        refiners = dict.fromkeys(one.models.refiner for one in surveys if one.models.refiner is not None)
        said = [*result.summary.notes, *(note for one in refiners for note in one.take_notes()), *filter(None, notes)]
        runners = dict.fromkeys(runner for one in surveys for runner in one.models.runners)
        summary = replace(result.summary, runtime=nn.runtime.summarise(list(runners)), notes=tuple(said))
        result = replace(result, summary=summary)
        if self.as_ == "lines":
            return self._lines(result, steps)
        traced = _traced(result.features, surveys, steps) if self.keep_trace else None
        features = in_crs(result.features, self.crs)
        return replace(result, features=features, traced=None if traced is None else in_crs(traced, self.crs))

    def _lines(self, result: Result, steps: Sequence[Steps]) -> Result:
        stage = next((step.theme.shape for step in steps if isinstance(step.theme.shape, Lines)), Lines())
        heatmaps = {step.theme.label: step.heatmap for step in steps if step.heatmap is not None}
        network = stage.network(result.features, heatmaps)
        summary = replace(result.summary, features=len(network.lines))
        lines, nodes = in_crs(network.lines, self.crs), in_crs(network.nodes, self.crs)
        return replace(result, features=lines, summary=summary, nodes=nodes)

    def write(self, result: Result, steps: Sequence[Steps], store: Store) -> Result:
        """Write a result where it is to be written, and its steps to its run.

        Nothing is written that another process of the run has written already.

        Args:
            result: with its provenance.
            steps: what the result was made of.
            store: of the run; remembers what was written.

        Returns:
            the result with the file's name.

        Raises:
            OutputError: a file cannot be written.
        """
        request = json.dumps(result.provenance["request"])
        mark = key_of("written", str(self.out), result.features, request)
        with store.claim("result", wait=True):  # several processes may be here at once
            if self.out is None or store.load(mark) != file_stamp(self.out):
                self._write(result)
                if store.keeps_parts:
                    heatmaps = {step.theme.name: step.heatmap for step in steps}
                    prompts = [None if step.load_prompts is None else step.load_prompts() for step in steps]
                    with store.for_people() as folder:
                        write_steps(folder, heatmaps, prompts, [step.refined for step in steps])
                if self.out is not None:
                    store.save(mark, file_stamp(self.out))
        return result if self.out is None else result.at(self.out)

    def _write(self, result: Result) -> None:
        if self.out is None:
            return
        features, provenance = result.features, result.provenance
        about = (result.grid, result.classes, list(features), provenance)
        with item_beside(self.out, *about) if self.stac else nullcontext():
            if self.schema in SCHEMAS:
                write_schema(self.schema, features, self.out, provenance)
            elif self.out.suffix.lower() not in RASTERS:
                write_result(features, self.out, provenance, nodes=result.nodes, traced=result.traced)
            else:
                write_classes(features, self.out, result.grid, result.classes, provenance)


def _traced(features: gpd.GeoDataFrame, surveys: Sequence[Survey], steps: Sequence[Steps]) -> gpd.GeoDataFrame:
    """Return the same objects with the outlines that they were shaped from."""
    # whether an object belongs to an area was decided by its shaped outline; regions are cut at its border
    plain = [
        replace(s, theme=s.theme.shaped("traced"), ground=s.ground if s.theme.objects.in_pieces else None)
        for s in surveys
    ]
    rows = [survey.features(step.refined).rows for survey, step in zip(plain, steps, strict=True)]
    drawn = pd.concat(rows, ignore_index=True).set_index("id")
    known = features["id"].isin(drawn.index)  # of a region cut to nothing there is no trace
    kept, drawn = features[known], drawn.loc[features["id"][known]]
    return kept.assign(area_m2=drawn["area_m2"].to_numpy()).set_geometry(drawn.geometry.set_axis(kept.index))
