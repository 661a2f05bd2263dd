from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from hybridseg.demo import render_town
from hybridseg.errors import ThemeError
from hybridseg.resources import configs_folder
from hybridseg.train.classifier import ClassifierSamples, targets
from hybridseg.train.recipe import Recipe, load_recipe
from hybridseg.train.refiner import RefinerSamples, ground
from hybridseg.train.run import train
from hybridseg.train.scenes import Scene, depth, load_scenes
from hybridseg.where.hints import POINTS


@pytest.fixture(scope="module")
def scene() -> Scene:
    town = render_town(256, 0.3, seed=1, density=0.8)
    image = np.ascontiguousarray(town.image.transpose(1, 2, 0))
    return Scene(image, town.instances(), np.ones(image.shape[:2], bool), 0.3, "town", "town-1")


@pytest.mark.parametrize("path", sorted((configs_folder() / "recipes").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_recipe_in_the_repository_is_valid(path: Path):
    assert load_recipe(path).sets


def test_a_wrong_recipe_names_the_key(tmp_path: Path):
    path = tmp_path / "r.yaml"
    path.write_text("kind: classifier\nmodel: x\nsteps: 0\nsets: {}\n")
    with pytest.raises(ThemeError, match="steps"):
        load_recipe(path)
    with pytest.raises(ThemeError, match="no recipe"):
        load_recipe(tmp_path / "gone.yaml")


def test_depth_is_nothing_at_borders_and_one_in_the_middle():
    labels = np.zeros((20, 20), np.int32)
    labels[2:11, 2:11], labels[2:11, 11:18] = 1, 2
    deep = depth(labels)
    assert deep[6, 6] == 1
    assert deep[labels == 0].max() == 0
    assert deep[6, 10] < 0.3  # where two objects touch
    assert deep[6, 11] < 0.3


def test_tiles_of_a_web_map_grid_are_joined_and_objects_across_edges_made_one(tmp_path: Path):
    rows = ["dataset,image,label,split,place,gsd_m"]
    whole = np.zeros((64, 128), np.uint16)
    whole[10:30, 50:80] = 5  # across the edge between the two tiles
    whole[40:60, 10:30] = 6
    for x in (0, 1):
        part = whole[:, 64 * x : 64 * x + 64]
        Image.fromarray(part).save(tmp_path / f"l-{x}-7-19.png")
        Image.new("RGB", (64, 64), (x, 0, 0)).save(tmp_path / f"i-{x}-7-19.png")
        rows.append(f"d,i-{x}-7-19.png,l-{x}-7-19.png,train,p,0.2")
    (tmp_path / "tiles.csv").write_text("\n".join(rows))
    (scene,) = load_scenes(tmp_path / "tiles.csv", "d", "train")
    assert scene.image.shape == (64, 128, 3)
    assert len(np.unique(scene.instances)) == 3
    assert len(np.unique(scene.instances[10:30, 50:80])) == 1
    with pytest.raises(ThemeError, match="split=val"):
        load_scenes(tmp_path / "tiles.csv", "d", "val")


def test_classifier_samples(scene: Scene):
    samples = ClassifierSamples({"town": targets([scene], 0.3)}, {"town": 1.0}, size_px=64)
    images, wanted = next(samples.batches(3, seed=0))
    assert images.shape == (3, 3, 64, 64)
    assert images.dtype == np.uint8
    assert wanted.shape == (3, 3, 64, 64)
    assert 0 <= wanted.min() <= wanted.max() <= 1
    again = next(samples.batches(3, seed=0))
    assert np.array_equal(images, again[0])


def test_refiner_samples_point_at_their_masks(scene: Scene):
    samples = RefinerSamples({"town": [ground(scene, scene.instances)]}, {"town": 1.0}, size_px=128, bare=0.3)
    batch = next(samples.batches(6, seed=0))
    count = len(batch["masks"])
    assert batch["points"].shape == (count, POINTS, 2)
    assert batch["hints"].shape == (count, 1, 32, 32)
    assert batch["image_of"].max() == 5
    assert 0 < batch["has_hint"].mean() < 1
    assert not batch["hints"][~batch["has_hint"]].any()
    for mask, points, labels in zip(batch["masks"], batch["points"], batch["labels"], strict=True):
        for (x, y), kind in zip(points, labels, strict=True):
            if kind == 1:
                assert mask[int(y), int(x)]
            if kind == 0 and (x, y) != (0.5, 0.5):
                assert not mask[int(y), int(x)]
        assert (labels >= 0).any()


@pytest.mark.parametrize("kind", ["classifier", "refiner"])
def test_training_learns_stops_and_goes_on(kind: str, tmp_path: Path):
    plan = Recipe.model_validate(
        {"kind": kind, "model": "x", "sets": {"town": {"share": 1, "towns": 1}}, "steps": 2, "batch": 2, "size_px": 64}
    )
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(plan.model_dump(mode="json") | {"start": None}))
    folder = train(path, runs=tmp_path / "runs", quiet=True)
    assert yaml.safe_load((folder / "card.yaml").read_text())["steps"] == 2
    path.write_text(path.read_text().replace("steps: 2", "steps: 3"))
    assert yaml.safe_load((train(path, runs=tmp_path / "runs", quiet=True) / "card.yaml").read_text())["steps"] == 3
