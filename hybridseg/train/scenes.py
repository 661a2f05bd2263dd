"""Labelled scenes in memory: tiles of a data set, joined where they are neighbours.

The description is a CSV like `tiles.csv` of the shared data: dataset, image, label, split, place, gsd_m; paths are
relative to it. Labels are instance masks (one object, one id; 0 none) or class codes. Tiles named `...-x-y-z` lie on a
web map's tile grid: those of one data set and split are joined into scenes, so that objects are whole.
"""

from __future__ import annotations

import csv
import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning
from scipy import ndimage as ndi

from hybridseg.errors import ThemeError
from hybridseg.train.recipe import DataSet

TILE_NAME = re.compile(r"-(\d+)-(\d+)-(\d+)$")
NDWI_WATER, NDWI_LAND = 0.1, -0.05
"""Water above, land below, unknown between (wet soil, reeds, shores); looked at on ten dates of a prairie."""


@dataclass(frozen=True)
class Scene:
    """One labelled image.

    image: (H, W, 3) uint8, or (H, W, B) float32, bands as measured; objects: class to (H, W) int32 ids, 0 none, for the
    classes that its labels speak of (of others it says nothing); valid: (H, W) bool, False where nothing is known.
    """

    image: np.ndarray
    objects: Mapping[str, np.ndarray]
    valid: np.ndarray
    gsd_m: float
    dataset: str
    name: str

    @property
    def instances(self) -> np.ndarray:
        """All objects in one (H, W) int32 layer; where classes overlap, the last wins."""
        layers = list(self.objects.values())
        merged = layers[0]
        for layer in layers[1:]:
            merged = np.where(layer > 0, layer + merged.max(), merged)
        return merged


def load_scenes(table: Path, dataset: str, chosen: DataSet) -> list[Scene]:
    """All scenes of one data set, as the recipe's entry says to read it.

    Raises:
        ThemeError: the table is missing, has no such rows, or they have no GSD and the entry gives none.
    """
    if not table.exists():
        raise ThemeError(f"no data description at {table}; give the CSV that lists images, labels, split and gsd_m")
    if chosen.ndwi:
        return [_from_ndwi(path, dataset, chosen) for path in _files(table.parent, chosen.ndwi)]
    with table.open() as file:
        rows = [r for r in csv.DictReader(file) if r["dataset"] == dataset and r["split"] == chosen.split]
    rows = [r for r in rows if (r["gsd_m"] or chosen.gsd_m) and fnmatch(Path(r["image"]).stem, chosen.images)]
    if not rows:
        raise ThemeError(
            f"{table} has no rows with dataset={dataset}, split={chosen.split}, image={chosen.images} and a gsd_m"
        )
    tiles, single = {}, []
    for row in rows:
        scene = _read_tile(table.parent, row, chosen)
        place = TILE_NAME.search(Path(row["image"]).stem)
        if place:
            tiles[int(place[1]), int(place[2])] = scene
        else:
            single.append(scene)
    joined = [_without(scene, chosen) for scene in _join(tiles)]
    return [_without(scene, chosen) for scene in single] + joined


def _files(folder: Path, pattern: str) -> list[Path]:
    found = sorted(folder.glob(pattern))
    if not found:
        raise ThemeError(f"no files match {folder / pattern}")
    return found


def _read_tile(folder: Path, row: dict[str, str], chosen: DataSet) -> Scene:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # training needs the GSD only, which the table gives
        with rasterio.open(folder / row["image"]) as file:
            image = file.read(indexes=(1, 2, 3)).transpose(1, 2, 0)
    labels = np.array(Image.open(folder / row["label"])).astype(np.int32)
    valid = np.ones(labels.shape, bool)
    if chosen.codes:
        valid = (labels > 0) & ~np.isin(labels, chosen.unknown)
        objects = {name: ndi.label(labels == code)[0].astype(np.int32) for name, code in chosen.codes.items()}
    else:
        objects = {chosen.label: labels}
    gsd_m = chosen.gsd_m or float(row["gsd_m"])
    return Scene(image, objects, valid, gsd_m, row["dataset"], Path(row["image"]).stem)


def _from_ndwi(path: Path, dataset: str, chosen: DataSet) -> Scene:
    """Water from the infrared: a pseudo-label from NDWI (McFeeters 1996), or with a short-wave band MNDWI (Xu 2006)."""
    with rasterio.open(path) as file:
        shown = file.read(indexes=chosen.rgb_bands)
        green, infrared = file.read(indexes=chosen.ndwi_bands).astype(np.float32)
        gsd_m = chosen.gsd_m or float(file.res[0])
    image = np.clip(shown.transpose(1, 2, 0) * np.array(chosen.rgb_gain), 0, 255).astype(np.uint8)
    ndwi = (green - infrared) / np.maximum(green + infrared, 1)
    water = ndi.binary_opening(ndwi > NDWI_WATER)
    valid = (water | (ndwi < NDWI_LAND)) & (shown.any(0) | (infrared > 0))
    labels = ndi.label(water)[0].astype(np.int32)
    return Scene(image, {chosen.label: labels}, valid, gsd_m, dataset, path.stem)


def _without(scene: Scene, chosen: DataSet) -> Scene:
    """The scene with empty layers for the classes that it is known to hold none of."""
    empty = np.zeros(scene.valid.shape, np.int32)
    return replace(scene, objects={**scene.objects, **dict.fromkeys(chosen.without, empty)})


def _join(tiles: dict[tuple[int, int], Scene]) -> Iterator[Scene]:
    """One scene for every group of touching tiles; ids that meet across an edge become one."""
    for group in _touching(tiles):
        x0, y0 = min(x for x, _ in group), min(y for _, y in group)
        x1, y1 = max(x for x, _ in group), max(y for _, y in group)
        first = tiles[group[0]]
        side = first.image.shape[0]
        shape = ((y1 - y0 + 1) * side, (x1 - x0 + 1) * side)
        image, valid = np.zeros((*shape, 3), np.uint8), np.zeros(shape, bool)
        objects = {name: np.zeros(shape, np.int32) for name in first.objects}
        used = 0
        for x, y in group:
            at = (slice((y - y0) * side, (y - y0 + 1) * side), slice((x - x0) * side, (x - x0 + 1) * side))
            tile = tiles[x, y]
            image[at], valid[at] = tile.image, tile.valid
            for kind, labels in tile.objects.items():
                objects[kind][at] = np.where(labels > 0, labels + used, 0)
            used += max(int(labels.max()) for labels in tile.objects.values())
        name = f"{first.dataset}-{x0}-{y0}"
        merged = {kind: _merge_across_edges(labels, side) for kind, labels in objects.items()}
        yield Scene(image, merged, valid, first.gsd_m, first.dataset, name)


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
        by_band(scene.image, lambda band: band.resize(size, Image.Resampling.BILINEAR)),
        {kind: resize_labels(labels, size) for kind, labels in scene.objects.items()},
        np.asarray(Image.fromarray(scene.valid).resize(size, Image.Resampling.NEAREST)),
        gsd_m,
        scene.dataset,
        scene.name,
    )


def by_band(image: np.ndarray, change: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    """An (H, W) or (H, W, B) array through a change of images; PIL knows bands together in RGB only."""
    if image.ndim == 2 or image.dtype == np.uint8:
        return np.asarray(change(Image.fromarray(image)))
    return np.stack([np.asarray(change(Image.fromarray(band))) for band in np.moveaxis(image, 2, 0)], axis=2)


def resize_labels(
    labels: np.ndarray, size: tuple[int, int], box: tuple[float, float, float, float] | None = None
) -> np.ndarray:
    """Nearest-neighbour resize of (H, W) int32 labels to `size` = (width, height) px, of the part in `box`."""
    return np.asarray(Image.fromarray(labels.astype(np.int32)).resize(size, Image.Resampling.NEAREST, box=box))


def depth(instances: np.ndarray) -> np.ndarray:
    """How deep each pixel lies inside its object: 0 at the border, 1 at the deepest pixel; (H, W) float32."""
    if not instances.any():  # many sets say of a class that there is none of it
        return np.zeros(instances.shape, np.float32)
    edge = np.zeros(instances.shape, bool)
    for axis in (0, 1):
        step = np.diff(instances, axis=axis) != 0
        edge |= np.pad(step, [(1, 0) if a == axis else (0, 0) for a in (0, 1)])
        edge |= np.pad(step, [(0, 1) if a == axis else (0, 0) for a in (0, 1)])
    distance = ndi.distance_transform_edt(~edge) * (instances > 0)
    deepest = np.zeros(int(instances.max()) + 1)
    np.maximum.at(deepest, instances.ravel(), distance.ravel())
    return (distance / np.maximum(deepest[instances], 1)).astype(np.float32)
