"""Labelled scenes in memory: tiles of a data set, joined where they are neighbours.

The description is a CSV like `tiles.csv` of the shared data: dataset, image, label, split, place, gsd_m; paths are
relative to it. Labels are instance masks (one building, one id; 0 none). Tiles named `...-x-y-z` lie on a web map's
tile grid: those of one data set and split are joined into scenes, so that objects are whole.
"""

from __future__ import annotations

import csv
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning
from scipy import ndimage as ndi

from hybridseg.errors import ThemeError

TILE_NAME = re.compile(r"-(\d+)-(\d+)-(\d+)$")


@dataclass(frozen=True)
class Scene:
    """One labelled image.

    image: (H, W, 3) uint8; instances: (H, W) int32, 0 none; valid: (H, W) bool, False where there is no tile.
    """

    image: np.ndarray
    instances: np.ndarray
    valid: np.ndarray
    gsd_m: float
    dataset: str
    name: str


def load_scenes(table: Path, dataset: str, split: str) -> list[Scene]:
    """All scenes of one data set and split.

    Raises:
        ThemeError: the table is missing or has no such rows.
    """
    if not table.exists():
        raise ThemeError(f"no data description at {table}; give the CSV that lists images, labels, split and gsd_m")
    with table.open() as file:
        rows = [r for r in csv.DictReader(file) if r["dataset"] == dataset and r["split"] == split and r["gsd_m"]]
    if not rows:
        raise ThemeError(f"{table} has no rows with dataset={dataset}, split={split} and a gsd_m")
    tiles, single = {}, []
    for row in rows:
        scene = _read_tile(table.parent, row)
        place = TILE_NAME.search(Path(row["image"]).stem)
        if place:
            tiles[int(place[1]), int(place[2])] = scene
        else:
            single.append(scene)
    return single + list(_join(tiles))


def _read_tile(folder: Path, row: dict[str, str]) -> Scene:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # training needs the GSD only, which the table gives
        with rasterio.open(folder / row["image"]) as file:
            image = file.read(indexes=(1, 2, 3)).transpose(1, 2, 0)
    instances = np.array(Image.open(folder / row["label"])).astype(np.int32)
    name = Path(row["image"]).stem
    return Scene(image, instances, np.ones(instances.shape, bool), float(row["gsd_m"]), row["dataset"], name)


def _join(tiles: dict[tuple[int, int], Scene]) -> Iterator[Scene]:
    """One scene for every group of touching tiles; ids that meet across an edge become one."""
    for group in _touching(tiles):
        x0, y0 = min(x for x, _ in group), min(y for _, y in group)
        x1, y1 = max(x for x, _ in group), max(y for _, y in group)
        first = tiles[group[0]]
        side = first.image.shape[0]
        shape = ((y1 - y0 + 1) * side, (x1 - x0 + 1) * side)
        image, valid = np.zeros((*shape, 3), np.uint8), np.zeros(shape, bool)
        instances, used = np.zeros(shape, np.int32), 0
        for x, y in group:
            at = (slice((y - y0) * side, (y - y0 + 1) * side), slice((x - x0) * side, (x - x0 + 1) * side))
            tile = tiles[x, y]
            image[at], valid[at] = tile.image, True
            instances[at] = np.where(tile.instances > 0, tile.instances + used, 0)
            used += int(tile.instances.max())
        name = f"{first.dataset}-{x0}-{y0}"
        yield Scene(image, _merge_across_edges(instances, side), valid, first.gsd_m, first.dataset, name)


def _touching(places: dict[tuple[int, int], Scene]) -> Iterator[list[tuple[int, int]]]:
    left = set(places)
    while left:
        group, edge = [], [min(left)]
        left.discard(edge[0])
        while edge:
            x, y = edge.pop()
            group.append((x, y))
            near = {(x + 1, y), (x - 1, y), (x, y + 1), (x, y - 1)} & left
            left -= near
            edge.extend(sorted(near))
        yield sorted(group)


def _merge_across_edges(instances: np.ndarray, side: int) -> np.ndarray:
    """Give one id to two parts that face each other over most of the shorter contact along a tile edge."""
    parent = np.arange(instances.max() + 1)
    height, width = instances.shape
    edges = [(instances[r - 1], instances[r]) for r in range(side, height, side)]
    edges += [(instances[:, c - 1], instances[:, c]) for c in range(side, width, side)]
    for before, after in edges:
        contacts: dict[tuple[int, int], int] = defaultdict(int)
        for a, b in zip(before.tolist(), after.tolist(), strict=True):
            if a and b:
                contacts[a, b] += 1
        for (a, b), length in sorted(contacts.items()):
            if length >= 0.5 * min(int((before == a).sum()), int((after == b).sum())):
                low, high = sorted((parent[a], parent[b]))
                parent[parent == high] = low
    return parent[instances].astype(np.int32)


def rescale(scene: Scene, gsd_m: float) -> Scene:
    """The scene at another ground sampling distance (image smoothed, labels nearest)."""
    k = scene.gsd_m / gsd_m
    size = (max(1, round(scene.image.shape[1] * k)), max(1, round(scene.image.shape[0] * k)))
    return Scene(
        np.asarray(Image.fromarray(scene.image).resize(size, Image.Resampling.BILINEAR)),
        resize_labels(scene.instances, size),
        np.asarray(Image.fromarray(scene.valid).resize(size, Image.Resampling.NEAREST)),
        gsd_m,
        scene.dataset,
        scene.name,
    )


def resize_labels(
    labels: np.ndarray, size: tuple[int, int], box: tuple[float, float, float, float] | None = None
) -> np.ndarray:
    """Nearest-neighbour resize of (H, W) int32 labels to `size` = (width, height) px, of the part in `box`."""
    return np.asarray(Image.fromarray(labels.astype(np.int32)).resize(size, Image.Resampling.NEAREST, box=box))


def depth(instances: np.ndarray) -> np.ndarray:
    """How deep each pixel lies inside its object: 0 at the border, 1 at the deepest pixel; (H, W) float32."""
    edge = np.zeros(instances.shape, bool)
    for axis in (0, 1):
        step = np.diff(instances, axis=axis) != 0
        edge |= np.pad(step, [(1, 0) if a == axis else (0, 0) for a in (0, 1)])
        edge |= np.pad(step, [(0, 1) if a == axis else (0, 0) for a in (0, 1)])
    distance = ndi.distance_transform_edt(~edge) * (instances > 0)
    deepest = np.zeros(int(instances.max()) + 1)
    np.maximum.at(deepest, instances.ravel(), distance.ravel())
    return (distance / np.maximum(deepest[instances], 1)).astype(np.float32)
