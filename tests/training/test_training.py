from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
import yaml
from affine import Affine
from odc.geo.geobox import GeoBox
from PIL import Image
from rasterio.features import rasterize
from safetensors.numpy import load_file

from hybridseg import nn
from hybridseg.errors import ThemeError
from hybridseg.folders import configs_folder
from hybridseg.labels.images import LabelledImage
from hybridseg.labels.samples import ClassifierSamples
from hybridseg.nn.classify import classifier
from hybridseg.nn.classify.heads import Segmenter
from hybridseg.nn.training.learners import ClassifierLearner
from hybridseg.read.opening import open_scene
from hybridseg.run.survey import Survey
from hybridseg.search import write_theme
from hybridseg.theme import load_theme
from hybridseg.training.datasets import load_images
from hybridseg.training.recipe import DataSet, Recipe, load_recipe
from hybridseg.training.refiner import RefinerSamples, boxed
from hybridseg.training.run import find_supports, train
from hybridseg.types import MAX_POINTS
from hybridseg.what import Regions
from townscape import render_town


@pytest.fixture(scope="module")
def scene() -> LabelledImage:
    town = render_town(256, 0.3, seed=1, density=0.8)
    image = np.ascontiguousarray(town.image.transpose(1, 2, 0))
    return LabelledImage(image, {"building": town.instances()}, np.ones(image.shape[:2], bool), 0.3, "town", "town-1")


RECIPES = [*(configs_folder() / "recipes").glob("*.yaml"), *Path("benchmarks/recipes").glob("*.yaml")]


@pytest.mark.parametrize("path", sorted(RECIPES), ids=lambda p: p.stem)
def test_a_recipe_in_the_repository_starts_from_nothing_that_it_does_not_make(path: Path):
    stages, made = load_recipe(path).stages, set[str]()
    for stage in stages:
        needed = {stage.start, *(chosen.supports for chosen in stage.sets.values())}
        assert needed - {None} <= made
        made.add(stage.name)


def test_a_wrong_recipe_names_the_key(tmp_path: Path):
    path = tmp_path / "r.yaml"
    path.write_text("kind: classifier\nmodel: x\nsteps: 0\nsets: {}\n")
    with pytest.raises(ThemeError, match="steps"):
        load_recipe(path)
    with pytest.raises(ThemeError, match="no recipe"):
        load_recipe(tmp_path / "gone.yaml")


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
    (scene,) = load_images(tmp_path / "tiles.csv", "d", DataSet(share=1))
    assert scene.image.shape == (64, 128, 3)
    assert len(np.unique(scene.instances)) == 3
    assert len(np.unique(scene.instances[10:30, 50:80])) == 1
    with pytest.raises(ThemeError, match="split=val"):
        load_images(tmp_path / "tiles.csv", "d", DataSet(share=1, split="val"))


def test_a_set_may_be_seen_as_a_coarser_sensor_gives_it(tmp_path: Path):
    labels, stripes = np.zeros((64, 64), np.uint8), np.zeros((64, 64, 3), np.uint8)
    labels[:, :32], stripes[:, ::2] = 7, 200
    Image.fromarray(labels).save(tmp_path / "l.png")
    Image.fromarray(stripes).save(tmp_path / "i.png")
    (tmp_path / "tiles.csv").write_text("dataset,image,label,split,place,gsd_m\nd,i.png,l.png,train,p,2.0\n")
    (fine,), (coarse,) = (load_images(tmp_path / "tiles.csv", "d", DataSet(share=1, seen_gsd_m=g)) for g in (None, 8.0))
    assert fine.image.std() > 90
    assert coarse.image.std() < 1, "stripes of 2 m are not seen at 8 m"
    assert coarse.image.mean() == pytest.approx(fine.image.mean(), abs=1)
    assert (coarse.image.shape, coarse.gsd_m) == (fine.image.shape, 2.0)
    assert np.array_equal(coarse.instances, fine.instances)


def test_ground_that_labels_of_objects_call_unknown_is_none(tmp_path: Path):
    ids = np.zeros((64, 64), np.uint8)
    ids[:20], ids[30:40], ids[50:] = 1, 255, 2
    Image.fromarray(ids).save(tmp_path / "l.png")
    Image.new("RGB", (64, 64)).save(tmp_path / "i.png")
    (tmp_path / "tiles.csv").write_text("dataset,image,label,split,place,gsd_m\nd,i.png,l.png,train,p,0.3\n")
    (scene,) = load_images(tmp_path / "tiles.csv", "d", DataSet(share=1, unknown=[255]))
    assert np.array_equal(~scene.valid, ids == 255)
    assert np.unique(scene.instances).tolist() == [0, 1, 2]


def test_class_codes_speak_of_their_classes_only_and_0_of_none(tmp_path: Path):
    codes = np.zeros((64, 64), np.uint8)
    codes[:, 20:], codes[10:20, 30:40], codes[40:50, 30:40] = 5, 3, 3
    Image.fromarray(codes).save(tmp_path / "l.png")
    Image.new("RGB", (64, 64)).save(tmp_path / "i.png")
    (tmp_path / "tiles.csv").write_text("dataset,image,label,split,place,gsd_m\nd,i.png,l.png,train,p,\n")
    with pytest.raises(ThemeError, match="gsd_m"):
        load_images(tmp_path / "tiles.csv", "d", DataSet(share=1, codes={"water": 3}))
    entry = DataSet(share=1, codes={"water": 3, "road": 2}, without=["solar"], gsd_m=1.5)
    (scene,) = load_images(tmp_path / "tiles.csv", "d", entry)
    assert scene.gsd_m == 1.5
    assert {name: int(layer.max()) for name, layer in scene.objects.items()} == {"water": 2, "road": 0, "solar": 0}
    assert not scene.valid[:, :20].any()
    assert scene.valid[:, 20:].all()


def test_water_from_the_near_infrared(tmp_path: Path):
    bands = np.full((4, 40, 60), 100, np.uint8)
    bands[3, :, :20] = 20  # water takes the infrared in
    bands[3, :, 20:40] = 95  # not sure
    bands[3, :, 40:] = 200
    profile = {"driver": "GTiff", "count": 4, "height": 40, "width": 60, "dtype": "uint8"}
    with rasterio.open(
        tmp_path / "a.tif", "w", **profile, crs="EPSG:26914", transform=rasterio.Affine(5, 0, 0, 0, -5, 0)
    ) as file:
        file.write(bands)
    (tmp_path / "tiles.csv").write_text("")
    entry = DataSet(share=1, label="water", ndwi="*.tif")
    (scene,) = load_images(tmp_path / "tiles.csv", "p", entry)
    assert scene.gsd_m == 5
    assert (scene.objects["water"] > 0)[1:-1, :20].all()  # opening takes the corners
    assert not scene.valid[:, 21:40].any()
    assert not scene.objects["water"][:, 40:].any()
    with pytest.raises(ThemeError, match="no files"):
        load_images(tmp_path / "tiles.csv", "p", DataSet(share=1, ndwi="*.jp2"))


def test_a_class_that_a_batch_says_nothing_of_learns_nothing():
    learner = ClassifierLearner(Segmenter(2), steps=1)
    images = torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8)
    targets = torch.zeros(2, 2, 3, 64, 64)
    targets[:, 0, 2] = 1
    learner.log = lambda *_, **__: None
    learner.training_step((images, targets), 0).backward()
    rows = learner.net.head[1].weight.grad.flatten(1).abs().sum(1)
    assert (rows[:2] > 0).all()
    assert not rows[2:].any()


def test_refiner_samples_are_of_every_kind_and_point_at_their_masks(scene: LabelledImage):
    samples = RefinerSamples({"town": [boxed(scene, scene.instances)]}, {"town": 1.0}, size_px=128)
    batch = next(samples.batches(30, seed=0))
    count = len(batch["masks"])
    assert batch["points"].shape == (count, MAX_POINTS, 2)
    assert batch["hints"].shape == (count, 1, 32, 32)
    assert batch["image_of"].max() == 29
    hinted, in_box = batch["hints"].any((1, 2, 3)), (batch["labels"] == 2).any(1)
    clicked = (batch["labels"] == 1).any(1)
    for kind in (hinted & in_box, hinted & ~in_box, in_box & ~hinted, ~hinted & ~in_box & clicked, batch["lone"]):
        assert 0.02 < kind.mean() < 0.7
    assert ((batch["labels"][batch["lone"]] >= 0).sum(1) == 1).all()
    for mask, points, labels, hint in zip(
        batch["masks"], batch["points"], batch["labels"], batch["hints"], strict=True
    ):
        for (x, y), kind in zip(points, labels, strict=True):
            if kind == 1:
                assert mask[int(y), int(x)]
            if kind == 0 and (x, y) != (0.5, 0.5):
                assert not mask[int(y), int(x)]
        assert (labels >= 0).any() or hint.any()


@pytest.mark.parametrize("kind", ["classifier", "refiner"])
def test_training_learns_stops_and_goes_on(kind: str, tmp_path: Path):
    plan = Recipe.model_validate(
        {"kind": kind, "model": "x", "sets": {"town": {"share": 1, "towns": 1}}, "steps": 2, "batch": 2, "size_px": 64}
    )
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(plan.model_dump(mode="json") | {"start": None}))
    folder = train(path, runs=tmp_path / "runs", quiet=True)
    assert yaml.safe_load((folder / "card.yaml").read_text())["steps"] == 2
    assert {file.stat().st_mode for file in (tmp_path / "runs" / "towns").iterdir()} == {path.stat().st_mode}
    path.write_text(path.read_text().replace("steps: 2", "steps: 3"))
    assert yaml.safe_load((train(path, runs=tmp_path / "runs", quiet=True) / "card.yaml").read_text())["steps"] == 3


def test_stages_go_on_from_each_other_and_mix_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shared = {"kind": "classifier", "model": "x", "batch": 2, "size_px": 64, "card": {"licence": "none"}}
    sets, path, runs = {"town": {"share": 1, "towns": 1}}, tmp_path / "staged.yaml", tmp_path / "runs"
    classes = ["building", "shed"]

    def weights(keep: float) -> dict[str, dict[str, np.ndarray]]:
        stages = [
            {"name": "first", "steps": 2, "sets": sets},
            {"name": "second", "steps": 3, "sets": sets, "start": "first", "keep": keep, "classes": classes},
        ]
        path.write_text(yaml.safe_dump(shared | {"stages": stages}))
        folder = train(path, runs=runs, quiet=True)
        card = yaml.safe_load((folder / "card.yaml").read_text())
        assert (card["name"], card["licence"], card["classes"]) == ("x", "none", classes)
        assert card["stages"] == {"first": 2, "second": 3}
        at = {"first": folder.parent / "first" / "model", "second": folder.parent / "second" / "model", "all": folder}
        return {name: load_file(place / "weights.safetensors") for name, place in at.items()}

    whole = weights(1.0)
    shutil.rmtree(runs / "staged" / "second")
    half = weights(0.25)
    for key, first in whole["first"].items():
        if first.dtype == np.float16 and first.shape == whole["second"][key].shape:
            expected = 0.75 * first.astype(np.float32) + 0.25 * whole["second"][key].astype(np.float32)
            np.testing.assert_allclose(half["second"][key], expected, rtol=3e-3, atol=1e-4)
    assert any(not np.array_equal(whole["second"][key], half["second"][key]) for key in half["second"])
    assert all(np.array_equal(half["second"][key], half["all"][key]) for key in half["all"])

    monkeypatch.setattr(nn.training.fit, "fit", lambda *_, **__: pytest.fail("a stage that is done is not done again"))
    weights(0.25)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([{"name": "a"}, {"name": "a"}], "a name each"),
        ([{"name": "a"}, {}], "a name each"),
        ([{"name": "a", "keep": 0.5}], "stages.0: .*keep adds weights"),
        ([{"name": "../a"}], "stages.0.name"),
        ([], "stages"),
        ("spam", "recipe"),
    ],
)
def test_wrong_stages_name_the_key(stages: object, message: str, tmp_path: Path):
    path = tmp_path / "r.yaml"
    plan = {"kind": "classifier", "model": "x", "steps": 1, "sets": {"town": {"share": 1, "towns": 1}}}
    path.write_text(yaml.safe_dump(plan | {"stages": stages}))
    with pytest.raises(ThemeError, match=message):
        load_recipe(path)


def test_a_recipe_goes_on_from_the_stages_of_another(tmp_path: Path):
    sets = {"town": {"share": 1, "towns": 1}}
    first = {"kind": "classifier", "model": "x", "stages": [{"name": "a", "steps": 1, "sets": sets, "rate": 0.5}]}
    own = {"kind": "classifier", "model": "y", "gsd_m": 1.0, "card": {"licence": "none"}, "from": "x"}
    later = {"name": "b", "start": "a", "steps": 2, "sets": sets}
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(first))
    for told in (own | {"stages": [later]}, own | later):
        (tmp_path / "y.yaml").write_text(yaml.safe_dump(told))
        recipe = load_recipe(tmp_path / "y.yaml")
        assert (recipe.model, recipe.card) == ("y", {"licence": "none"})
        assert [(one.name, one.start, one.gsd_m, one.rate) for one in recipe.stages] == [
            ("a", None, 0.25, 0.5), ("b", "a", 1.0, 1e-3),
        ]  # fmt: skip
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(first | {"from": f"../{tmp_path.name}/y"}))
    with pytest.raises(ThemeError, match=r"x\.yaml: from: the recipe comes from itself"):
        load_recipe(tmp_path / "x.yaml")
    (tmp_path / "y.yaml").write_text(yaml.safe_dump(own | {"from": "z"}))
    with pytest.raises(ThemeError, match=r"no recipe at .*z\.yaml"):
        load_recipe(tmp_path / "y.yaml")


def test_a_resumed_training_draws_other_samples_but_always_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    plan = {"kind": "classifier", "model": "x", "sets": {"town": {"share": 1, "towns": 1}}, "steps": 2, "batch": 2}
    path, runs = tmp_path / "small.yaml", tmp_path / "runs"
    path.write_text(yaml.safe_dump({**plan, "size_px": 64}))
    drawn: list[float] = []
    batches = ClassifierSamples.batches

    def spied(self: ClassifierSamples, size: int, seed: object) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for batch in batches(self, size, seed):
            drawn.append(float(batch[0].mean()))
            yield batch

    monkeypatch.setattr(ClassifierSamples, "batches", spied)
    train(path, runs=runs, quiet=True)
    shutil.copytree(runs, tmp_path / "kept")
    path.write_text(yaml.safe_dump({**plan, "size_px": 64, "steps": 4}))
    weights, before = [], drawn[:]
    for now in (1e9, 2e9):
        drawn.clear()
        monkeypatch.setattr(time, "time", lambda now=now: now)
        shutil.rmtree(runs)
        shutil.copytree(tmp_path / "kept", runs)
        folder = train(path, runs=runs, quiet=True)
        weights.append(((folder / "weights.safetensors").read_bytes(), drawn[:]))
        assert not set(drawn) & set(before)
    assert weights[0] == weights[1]


def test_supports_need_a_theme_that_their_model_knows(scene: LabelledImage, tmp_path: Path):
    assert find_supports(scene, DataSet(share=1), {}) is None
    assert find_supports(scene, DataSet(share=1, supports="buildings-lite0", supports_on="x*"), {}) is None
    with pytest.raises(ThemeError, match=r"looks for water.*; or give another supports_theme"):
        find_supports(scene, DataSet(share=1, supports="buildings-lite0", supports_theme="water"), {})


@pytest.mark.parametrize("theme", ["buildings", "regions"])
def test_supports_are_those_that_an_extraction_would_refine(scene: LabelledImage, tmp_path: Path, theme: str):
    if theme == "regions":
        regions = load_theme("buildings").model_copy(
            update={"objects": Regions(min_area_m2=6, min_hole_m2=0, piece_m=20, overlap_m=4)}
        )
        theme = str(write_theme(regions, tmp_path / "regions.yaml", "connected extent, in pieces"))
    found = find_supports(scene, DataSet(share=1, supports="buildings-lite0", supports_theme=theme), {})
    assert found is not None
    place = GeoBox(scene.valid.shape, Affine(0.3, 0, 0, 0, -0.3, 0), "EPSG:32631")
    survey = Survey.open(open_scene(scene.image.transpose(2, 0, 1), geobox=place), load_theme(theme), "none")
    grid = survey.heatmap().geobox
    objects = survey.prompts().rows[["id", "support"]].dissolve("id")
    assert len(objects) == len(np.unique(found)) - 1 > 3
    for support in objects.geometry:
        inside = rasterize([support], grid.shape, transform=grid.affine)[: found.shape[0], : found.shape[1]] > 0
        (number,) = np.unique(found[inside])
        assert np.array_equal(found == number, inside)


def test_supports_of_nothing_are_none(tmp_path: Path):
    dark = LabelledImage(
        np.full((64, 64, 3), 30, np.uint8), {"building": np.zeros((64, 64), np.int32)}, np.ones((64, 64), bool), 0.3,
        "d", "dark",
    )  # fmt: skip
    found = find_supports(dark, DataSet(share=1, supports="buildings-lite0"), {})
    assert found is not None
    assert not found.any()
    assert boxed(dark, found).support_of == {}


def test_a_classifier_is_loaded_once_for_all_images(scene: LabelledImage, tmp_path: Path):
    classifier._open.cache_clear()
    for _ in range(2):
        find_supports(scene, DataSet(share=1, supports="buildings-lite0"), {})
    assert classifier._open.cache_info().misses == 1


def test_labels_of_parts_of_an_image_show_those_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "configs" / "labels" / "buildings" / "d"
    own.mkdir(parents=True)
    image = np.arange(20 * 30 * 3, dtype=np.uint16).astype(np.uint8).reshape(20, 30, 3)
    Image.fromarray(image).save(tmp_path / "a.png")
    part = np.zeros((8, 6), np.uint8)
    part[1:4, 1:4], part[6:] = 1, 255
    Image.fromarray(part).save(own / "a@10,4.png")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(own / "a@0,12.png")
    Image.fromarray(part).save(own / "ab@0,0.png")  # of another image
    (tmp_path / "tiles.csv").write_text("dataset,image,label,split,place,gsd_m\nd,a.png,missing.png,train,p,1.0")
    monkeypatch.setattr("hybridseg.training.datasets.configs_folder", lambda: tmp_path / "configs")

    corner, middle = load_images(tmp_path / "tiles.csv", "d", DataSet(share=1, labels="buildings", unknown=[255]))

    np.testing.assert_array_equal(corner.image, image[12:20, 0:8])
    np.testing.assert_array_equal(middle.image, image[4:12, 10:16])
    np.testing.assert_array_equal(middle.objects["building"] > 0, part == 1)
    np.testing.assert_array_equal(middle.valid, part < 255)


def test_labels_of_our_own_stand_for_those_of_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "configs" / "labels" / "water" / "d"
    own.mkdir(parents=True)
    for name in ("a", "b"):
        Image.fromarray(np.full((8, 8, 3), 90, np.uint8)).save(tmp_path / f"{name}.png")
    codes = np.array([[0, 1, 2, 2]] * 4, np.uint8)
    Image.fromarray(codes).save(own / "b.png")
    rows = [f"d,{name}.png,missing.png,train,p,1.0" for name in ("a", "b")]
    (tmp_path / "tiles.csv").write_text("\n".join(["dataset,image,label,split,place,gsd_m", *rows]))
    monkeypatch.setattr("hybridseg.training.datasets.configs_folder", lambda: tmp_path / "configs")

    (only,) = load_images(tmp_path / "tiles.csv", "d", DataSet(share=1, labels="water", codes={"water": 2}))

    assert only.name == "b"  # `a` has no label of ours and is left out
    np.testing.assert_array_equal(only.valid, codes > 0)
    np.testing.assert_array_equal(only.objects["water"] > 0, codes == 2)
    with pytest.raises(ThemeError, match=r"none of their images has a label in configs/labels/roads/d"):
        load_images(tmp_path / "tiles.csv", "d", DataSet(share=1, labels="roads", codes={"road": 2}))
