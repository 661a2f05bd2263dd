"""What a user wants of a result: polygons or lines, their CRS and columns, and the file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import geopandas as gpd
import pandas as pd

from hybridseg.cog import SUFFIXES as RASTERS
from hybridseg.errors import HybridsegError, OutputError
from hybridseg.files import check_output
from hybridseg.run.request import check_crs, in_crs
from hybridseg.run.result import Result, Steps
from hybridseg.run.store import Store, file_stamp, key_of
from hybridseg.run.survey import Survey
from hybridseg.shape import Lines
from hybridseg.tables import Features
from hybridseg.theme import Theme
from hybridseg.write.companions import qmd_of
from hybridseg.write.formats import FORMATS
from hybridseg.write.raster import write_classes
from hybridseg.write.result import write_result
from hybridseg.write.schemas import SCHEMAS, check_schema, write_schema
from hybridseg.write.stac import item_path, write_item
from hybridseg.write.steps import write_steps


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
            qmd_of(self.out)
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

    def form(self, result: Result, surveys: Sequence[Survey], steps: Sequence[Steps]) -> Result:
        """Return a result as polygons, with the traced ones where they are kept, or as lines; in the CRS asked for.

        Args:
            result: of the steps.
            surveys: one for each theme.
            steps: what they made.
        """
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

    def write(self, result: Result) -> Result:
        """Write a result, where it is to be written, and return it with the file's name.

        Args:
            result: with its provenance.

        Raises:
            OutputError: the file cannot be written.
        """
        if self.out is None:
            return result
        features, provenance = result.features, result.provenance
        if self.out.suffix.lower() in RASTERS:
            write_classes(features, self.out, result.grid, result.classes, provenance)
        elif self.schema in SCHEMAS:
            write_schema(self.schema, features, self.out, provenance)
        else:
            write_result(features, self.out, provenance, nodes=result.nodes, traced=result.traced)
        if self.stac:
            write_item(self.out, result.grid, result.classes, list(features), provenance)
        return result.at(self.out)

    def write_once(self, result: Result, steps: Sequence[Steps], folder: Path, store: Store) -> Result:
        """Write a result, and its steps to the folder of its run, unless another process has written the same.

        Args:
            result: as for `write`.
            steps: what the result was made of.
            folder: of the run.
            store: of the run; remembers what was written.

        Raises:
            OutputError: a file cannot be written.
        """
        table, request = Features(result.features).fingerprint(), json.dumps(result.provenance["request"])
        mark = key_of("written", str(self.out), table, request)
        if self.out is not None and (stamp := store.load(mark)) is not None and stamp == file_stamp(self.out):
            return result.at(self.out)
        written = self.write(result)
        heatmaps = {step.theme.name: step.heatmap for step in steps}
        write_steps(
            folder,
            heatmaps,
            [None if step.prompts is None else step.prompts() for step in steps],
            [step.refined for step in steps],
        )
        if self.out is not None:
            store.save(mark, file_stamp(self.out))
        return written


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
