"""From the surface of a network (roads) to its centrelines: lines with a width, and the nodes where they meet."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from pydantic import Field
from pyproj import CRS
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from hybridseg.errors import NoGeoreference
from hybridseg.heatmap import Heatmap
from hybridseg.shape.geometry import repaired
from hybridseg.shape.lines.faint import Faint
from hybridseg.shape.lines.graph import (
    Graph,
    attached,
    bridged,
    extended,
    redrawn,
    to_edge,
    value_at,
    without_spurs,
    xy,
)
from hybridseg.shape.lines.sight import Sight
from hybridseg.shape.lines.skeleton import Skeleton
from hybridseg.shape.measure import by_metric_crs, returned
from hybridseg.shape.settings import ShapeStage
from hybridseg.shape.smooth import Smooth

LINE_COLUMNS = ("id", "class", "score", "width_m", "length_m", "from_node", "to_node", "geometry")
"""Columns of `LineNetwork.lines`, in order."""

NODE_COLUMNS = ("id", "degree", "geometry")
"""Columns of `LineNetwork.nodes`, in order."""


@dataclass(frozen=True)
class LineNetwork:
    """Lines and the nodes they run between, both in the CRS of the polygons they came from."""

    lines: gpd.GeoDataFrame
    """`LINE_COLUMNS`; `width_m`, `length_m` on the ground; `from_node`, `to_node` are ids of nodes. A closed line
    without a junction has one node, of degree 2; a loop counts twice in the degree of its node."""
    nodes: gpd.GeoDataFrame
    """`NODE_COLUMNS`; exactly the ends of the lines."""


class Lines(ShapeStage):
    """Roads or rivers as a network of centrelines, class by class; polygons that touch or overlap are one surface.

    The surface is thinned to a skeleton (see `skeleton`), and what thinning leaves is mended (see `graph`). The width
    is measured across the line, edge to edge. Where the heatmap is at hand, the network also follows what it shows
    too faintly for a surface (see `faint`). As polygons the features lose their steps, see `Smooth`.
    """

    kind: Literal["lines"] = "lines"
    cell_m: float = Field(
        1.0, ge=1e-3, description="pixel of the raster that is thinned, a third of the narrowest road or less"
    )
    min_hole_m2: float = Field(
        25.0, ge=0, description="smaller holes are filled; lines go around larger ones (blocks, roundabouts)"
    )
    spur_widths: float = Field(
        1.0,
        ge=0,
        description="a dead end that reaches less than this beyond the edge of the road it leaves, in widths of that "
        "road, is an artefact",
    )
    junction_widths: float = Field(1.0, ge=0, description="junctions closer than this along a line, in widths, are one")
    join_gap_m: float = Field(
        15.0,
        ge=0,
        description="dead ends that face each other, or point at a line, across at most this (a tree, a bridge) are "
        "joined; 0: never",
    )
    join_widths: float = Field(
        4.0,
        gt=0,
        description="of a way that the heatmap shows faintly, at most so many widths of its road, and `join_gap_m`, "
        "may be unseen",
    )
    faint: float = Field(
        0.25,
        gt=0,
        le=1,
        description="where the heatmap is at hand, ground from this probability on is thinned, too, and what hangs "
        "together with the surface stays; the gaps are metres of lower probability then",
    )
    faint_reach_m: float = Field(60.0, gt=0, description="how far from a dead end such a way may lead")
    join_angle_deg: float = Field(30.0, ge=0, le=90, description="largest turn at either end of such a gap")
    min_alone_m: float = Field(
        15.0, ge=0, description="a line without neighbours is left out when it is shorter than this, or than wide"
    )
    simplify_m: float = Field(0.75, ge=0, description="vertices whose loss shifts the line by less are left out")
    tile_px: int = Field(
        2048, ge=16, description="side of the tiles that are thinned at once; changes memory and time, not the result"
    )

    @property
    def reach_m(self) -> float:
        """`join_gap_m`: dead ends further apart are not joined."""
        return self.join_gap_m

    def shape(self, features: gpd.GeoDataFrame, gsd_m: float = 0.0, coarse_m: float = 0.0) -> gpd.GeoDataFrame:
        """Return the features as `Smooth` does: the surface of a network loses the steps of its pixels."""
        return Smooth().shape(features, gsd_m, coarse_m)

    def network(self, features: gpd.GeoDataFrame, heatmaps: Mapping[str, Heatmap] | None = None) -> LineNetwork:
        """Return the network of the polygons, its lines and nodes in order of id, whatever the order of the features.

        Args:
            features: polygons in any CRS, with columns `class` and `score`. A line's score is the mean along it of the
                best feature there.
            heatmaps: by class, what its polygons were found on, where that is at hand: the network then follows what it
                shows faintly, too.

        Raises:
            NoGeoreference: the features have no CRS.
            ThemeError: a surface is too wide to be thinned at this `cell_m`.
        """
        found = []
        usable = features[~(features.geometry.is_empty | features.geometry.isna())]
        for label, rows in usable.groupby("class"):
            for crs, members in _by_frame(rows.geometry, self.join_gap_m):
                surface = repaired(rows.geometry.iloc[members].to_crs(crs).to_numpy())
                solid = shapely.area(surface) > 0
                heatmap = (heatmaps or {}).get(label)
                sight = None if heatmap is None else Sight(heatmap, label, crs)
                lines = self._lines(surface[solid], rows["score"].to_numpy(float)[members][solid], sight)
                ground = returned(lines.geometry.set_crs(crs), usable.geometry)
                found.append(lines.set_geometry(ground).assign(**{"class": label}))
        return _network(found, features.crs)

    def _lines(self, surface: np.ndarray, score: np.ndarray, sight: Sight | None) -> gpd.GeoDataFrame:
        """Return lines with `score`, `width_m`, `length_m`, of polygons (n,) in metres."""
        skeleton = Skeleton(self.cell_m, self.min_hole_m2, self.tile_px, sight, self.faint, self.faint_reach_m)(surface)
        if len(skeleton) == 0:
            return gpd.GeoDataFrame(geometry=[])
        shapely.prepare(surface)
        graph = redrawn(without_spurs(Graph.of(skeleton), self.spur_widths), self.junction_widths)
        graph = bridged(extended(graph, surface), self.join_gap_m, self.join_angle_deg)
        if self.join_gap_m:
            graph = attached(graph, self.join_gap_m)
            if sight is not None:
                graph = Faint(sight, self.faint, self.cell_m, self.faint_reach_m, self.join_angle_deg, self._unseen_m)(
                    graph
                )
        columns = _measured(graph, surface, score)
        lines = shapely.get_parts(shapely.simplify(shapely.multilinestrings(graph.lines), self.simplify_m))
        columns["length_m"] = shapely.length(lines)
        kept = self._roads(graph, columns)
        columns["score"] = columns["score"].fillna(score.mean() if sight is None else self.faint)
        return gpd.GeoDataFrame(columns, geometry=shapely.force_2d(lines))[kept]

    def _unseen_m(self, half_m: float) -> float:
        """Return how much of a way on from a dead end of that half width may be unseen."""
        return float(np.fmin(self.join_gap_m, self.join_widths * 2 * half_m))

    def _roads(self, graph: Graph, columns: pd.DataFrame) -> np.ndarray:
        """Return which lines (n,) hang together with enough others to be roads, and with one on the surface."""
        links = coo_array((np.ones(len(graph.node)), tuple(graph.node.T)), shape=(len(graph.place),) * 2)
        _, part = connected_components(links, directed=False)
        parts = columns.groupby(part[graph.node[:, 0]])
        least = parts["width_m"].transform("max").clip(lower=self.min_alone_m)
        return np.asarray((parts["length_m"].transform("sum") >= least) & parts["score"].transform("count").gt(0))


def _by_frame(polygons: gpd.GeoSeries, gap_m: float) -> Iterator[tuple[CRS, np.ndarray]]:
    """Yield CRS and rows as `by_metric_crs` does, but polygons no further apart than `gap_m` share a CRS."""
    if polygons.crs is None:
        raise NoGeoreference("the features have no CRS, so they cannot be measured in metres: set the CRS of the layer")
    lon_lat = polygons.to_crs(4326).to_numpy()
    lat = np.clip(np.abs(shapely.bounds(lon_lat)[:, [1, 3]]).max(axis=1), 0, 89)
    gap_deg = gap_m / 110_000 / np.cos(np.radians(lat))  # a little too much, which does no harm
    pairs = shapely.STRtree(lon_lat).query(lon_lat, predicate="dwithin", distance=gap_deg)
    links = coo_array((np.ones(pairs.shape[1]), tuple(pairs)), shape=(len(lon_lat),) * 2)
    _, group = connected_components(links, directed=False)
    order = np.argsort(group, kind="stable")
    groups = gpd.GeoSeries(shapely.geometrycollections(lon_lat[order], indices=group[order]), crs=4326)
    for crs, numbers in by_metric_crs(groups):
        yield crs, np.flatnonzero(np.isin(group, numbers))


def _measured(graph: Graph, surface: np.ndarray, score: np.ndarray) -> pd.DataFrame:
    """Return columns `score` and `width_m` of lines, from three to nine places along each that keep away from its ends.

    Twice the distance along the skeleton would be too narrow by the depth of the notches in a ragged edge (at 1 m about
    0.4 m where roads are traced from pixels, more in predictions); edge to edge, notches and bumps cancel out.
    """
    z, line = shapely.get_coordinates(graph.lines, include_z=True, return_index=True)
    half, length = pd.Series(z[:, 2]).groupby(line).median().to_numpy(), shapely.length(graph.lines)
    half = np.where(np.isfinite(half), half, np.nanmedian(z[:, 2]))  # a way between two junctions has none of its own
    count = np.clip(length / (2 * half), 3, 9).astype(int)
    of = np.repeat(np.arange(len(length)), count)
    number = np.arange(len(of)) - np.repeat(np.cumsum(count) - count, count)
    margin, step = np.minimum(2 * half, length / 4), np.minimum(half, length / 4)[of]
    along = margin[of] + (number + 0.5) * ((length - 2 * margin) / count)[of]
    before, here, after = (
        xy(shapely.line_interpolate_point(graph.lines[of], along + shift)) for shift in (-step, 0, step)
    )
    aside = 1j * (after - before) / np.maximum(np.abs(after - before), 1e-9)
    width = sum(to_edge(here, way, half[of], surface) for way in (aside, -aside))
    found = pd.DataFrame({"width_m": width, "score": value_at(here, surface, score)}).groupby(of)
    return pd.DataFrame(
        {
            "score": found["score"].mean(),
            "width_m": found["width_m"].median().fillna(pd.Series(2 * half)),
        }
    )


def _network(found: list[gpd.GeoDataFrame], crs: CRS | None) -> LineNetwork:
    """Return lines with ids, and the nodes where those of one class end."""
    if not any(map(len, found)):
        return LineNetwork(*(_empty(columns, crs) for columns in (LINE_COLUMNS, NODE_COLUMNS)))
    lines = pd.concat([each for each in found if len(each)], ignore_index=True)
    ends = np.stack([shapely.get_point(lines.geometry, 0), shapely.get_point(lines.geometry, -1)], axis=-1).ravel()
    label, names = pd.factorize(lines["class"].repeat(2))
    keys = np.stack([label, shapely.get_x(ends), shapely.get_y(ends)])
    _, first, node, degree = np.unique(keys, axis=1, return_index=True, return_inverse=True, return_counts=True)
    places = gpd.GeoSeries(ends[first], crs=crs)
    node_id = _ids((f"{name}-node" for name in names[label[first]]), places)
    lines["from_node"], lines["to_node"] = node_id[node.reshape(-1, 2)].T
    lines = lines.assign(id=_ids(lines["class"], lines.geometry))[list(LINE_COLUMNS)]
    nodes = gpd.GeoDataFrame({"id": node_id, "degree": degree}, geometry=places)
    return LineNetwork(lines.sort_values("id", ignore_index=True), nodes.sort_values("id", ignore_index=True))


def _empty(columns: tuple[str, ...], crs: CRS | None) -> gpd.GeoDataFrame:
    kinds = {"score": float, "width_m": float, "length_m": float, "degree": int}
    values = {column: pd.Series(dtype=kinds.get(column, object)) for column in columns}
    return gpd.GeoDataFrame(values, geometry="geometry", crs=crs)


def _ids(labels: Iterable[str], geometries: gpd.GeoSeries) -> np.ndarray:
    """Return ids from class and place to a millimetre: the same in every run."""
    places = [np.round(shapely.get_coordinates(each), 8) + 0.0 for each in geometries.to_crs(4326)]  # + 0.0: no -0
    hashes = [hashlib.sha256(place.tobytes()).hexdigest()[:12] for place in places]
    return np.array([f"{label}-{name}" for label, name in zip(labels, hashes, strict=True)], dtype=object)
