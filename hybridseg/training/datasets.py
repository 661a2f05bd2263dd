"""Labelled images of a data set: tiles, joined where they are neighbours.

The description is a CSV like `tiles.csv` of the shared data: dataset, image, label, split, place, gsd_m; paths are
relative to it. Labels are instance masks (one object, one id; 0 none) or class codes. Tiles named `...-x-y-z` lie on a
web map's tile grid: those of one data set and split are joined into one image, so that objects are whole.
"""

from __future__ import annotations

import csv
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning
from scipy import ndimage as ndi
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from hybridseg.errors import ThemeError
from hybridseg.folders import configs_folder
from hybridseg.labels.images import LabelledImage
from hybridseg.training.recipe import DataSet

TILE_NAME = re.compile(r"-(\d+)-(\d+)-(\d+)$")
PART_NAME = re.compile(r"@(\d+),(\d+)$")
"""Of a label file for a part of an image, `NAME@COLUMN,ROW.png`: where its first pixel lies."""
NDWI_WATER, NDWI_LAND = 0.1, -0.05
"""Water above, land below, unknown between (wet soil, reeds, shores); looked at on ten dates of a prairie."""


def load_images(table: Path, dataset: str, chosen: DataSet) -> list[LabelledImage]:
    """Return all images of one data set, read as the recipe's entry says.

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
    if chosen.labels:
        own = configs_folder() / "labels" / chosen.labels / dataset
        labels = defaultdict[str, list[str]](list)
        for path in sorted(own.glob("*.png")):
            labels[PART_NAME.sub("", path.stem)].append(str(path))
        rows = [r | {"label": label} for r in rows for label in labels[Path(r["image"]).stem]]
    if not rows:
        raise ThemeError(
            f"{table} has no rows with dataset={dataset}, split={chosen.split}, image={chosen.images} and a gsd_m"
            + (
                f", or none of their images has a label in configs/labels/{chosen.labels}/{dataset}"
                if chosen.labels
                else ""
            )
        )
    tiles, single = {}, []
    for row in rows:
        image = _read_tile(table.parent, row, chosen)
        place = TILE_NAME.search(Path(row["image"]).stem)
        if place:
            tiles[int(place[1]), int(place[2])] = image
        else:
            single.append(image)
    found = [_without(image, chosen) for image in [*single, *_join(tiles)]]
    return found if chosen.seen_gsd_m is None else [image.seen_at(chosen.seen_gsd_m) for image in found]


def _files(folder: Path, pattern: str) -> list[Path]:
    found = sorted(folder.glob(pattern))
    if not found:
        raise ThemeError(f"no files match {folder / pattern}")
    return found


def _read_tile(folder: Path, row: dict[str, str], chosen: DataSet) -> LabelledImage:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # training needs the GSD only, which the table gives
        with rasterio.open(folder / row["image"]) as file:
            image = file.read(indexes=(1, 2, 3)).transpose(1, 2, 0)
    labels = np.array(Image.open(folder / row["label"])).astype(np.int32)
    if part := PART_NAME.search(Path(row["label"]).stem):
        col, line = int(part[1]), int(part[2])
        image = image[line : line + labels.shape[0], col : col + labels.shape[1]]
    valid = ~np.isin(labels, chosen.unknown)
    if chosen.codes:
        valid &= labels > 0
        objects = {name: ndi.label(labels == code)[0].astype(np.int32) for name, code in chosen.codes.items()}
    else:
        objects = {chosen.label: np.where(valid, labels, 0)}
    gsd_m = chosen.gsd_m or float(row["gsd_m"])
    return LabelledImage(image, objects, valid, gsd_m, row["dataset"], Path(row["image"]).stem)


def _from_ndwi(path: Path, dataset: str, chosen: DataSet) -> LabelledImage:
    """Return water labelled by NDWI (McFeeters 1996), or with a short-wave band by MNDWI (Xu 2006)."""
    with rasterio.open(path) as file:
        shown = file.read(indexes=chosen.rgb_bands)
        green, infrared = file.read(indexes=chosen.ndwi_bands).astype(np.float32)
        gsd_m = chosen.gsd_m or float(file.res[0])
    image = np.clip(shown.transpose(1, 2, 0) * np.array(chosen.rgb_gain), 0, 255).astype(np.uint8)
    ndwi = (green - infrared) / np.maximum(green + infrared, 1)
    water = ndi.binary_opening(ndwi > NDWI_WATER)
    valid = (water | (ndwi < NDWI_LAND)) & (shown.any(0) | (infrared > 0))
    labels = ndi.label(water)[0].astype(np.int32)
    return LabelledImage(image, {chosen.label: labels}, valid, gsd_m, dataset, path.stem)


def _without(image: LabelledImage, chosen: DataSet) -> LabelledImage:
    """Add empty layers for the classes that the data set is known to hold none of."""
    empty = np.zeros(image.valid.shape, np.int32)
    return replace(image, objects={**image.objects, **dict.fromkeys(chosen.without, empty)})


def _join(tiles: dict[tuple[int, int], LabelledImage]) -> Iterator[LabelledImage]:
    """Yield one image for every group of touching tiles; ids that meet across an edge become one."""
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
        yield LabelledImage(image, merged, valid, first.gsd_m, first.dataset, name)


def _touching(places: dict[tuple[int, int], LabelledImage]) -> Iterator[list[tuple[int, int]]]:
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
    """Give one id to two parts that face each other over at least half of the shorter contact along a tile edge."""
    height, width = instances.shape
    edges = [(instances[r - 1], instances[r]) for r in range(side, height, side)]
    edges += [(instances[:, c - 1], instances[:, c]) for c in range(side, width, side)]
    count = int(instances.max()) + 1
    one = [_facing(before, after) for before, after in edges]
    pairs = np.concatenate([np.empty((0, 2), int), *one])
    links = coo_array((np.ones(len(pairs), bool), tuple(pairs.T)), shape=(count, count))
    parts, part_of = connected_components(links, directed=False)
    lowest = np.full(parts, count)
    np.minimum.at(lowest, part_of, np.arange(count))
    return lowest[part_of][instances].astype(np.int32)


def _facing(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return the (N, 2) ids on both sides of an edge whose contact is at least half of the shorter one's length."""
    lengths = np.bincount(before), np.bincount(after)
    both = (before > 0) & (after > 0)
    pairs, contacts = np.unique(np.stack([before[both], after[both]], axis=1), axis=0, return_counts=True)
    shorter = np.minimum(lengths[0][pairs[:, 0]], lengths[1][pairs[:, 1]])
    return pairs[contacts >= 0.5 * shorter]
