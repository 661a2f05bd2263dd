"""The steps of a survey, with doubles for the networks: nothing depends on the tiling, nothing fails unseen."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely

from hybridseg import rowfile, tables
from hybridseg.errors import PromptsError, RunError, ThemeError, TooCoarse
from hybridseg.metrics.objects import match
from hybridseg.read.prompts import read_prompts
from hybridseg.run.engine import Done, Serial
from hybridseg.run.result import Result, Steps
from hybridseg.run.store import Folder, Memory, key_of
from hybridseg.run.survey import Survey
from hybridseg.run.tasks import ClassifyTask
from hybridseg.run.work import start_from
from hybridseg.shape import AsTraced, Smooth
from hybridseg.tables import Prompts, Refined
from hybridseg.theme import load_theme
from hybridseg.types import Chip, Failure
from hybridseg.what import Grid
from hybridseg.where.gate import Gate
from tests.conftest import BLOCKS
from tests.doubles import Bright, Threshold, survey
from tests.rasters import make
from townscape import render_town


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scene, _ = render_town(512, 0.3, seed=3).write(tmp_path_factory.mktemp("town"))
    return scene


def same(one: gpd.GeoDataFrame, two: gpd.GeoDataFrame) -> None:
    assert len(one) == len(two) > 5
    found = match(one.geometry, two.geometry, iou=0.98)
    assert len(found.ious) == len(one)
    assert one["id"].tolist() == two["id"].tolist()


@pytest.mark.parametrize("core_px", [128, 352, 1024])
@pytest.mark.parametrize("offset_px", [0, 32, 96])
def test_the_result_does_not_depend_on_the_tiling(town: Path, core_px: int, offset_px: int):
    same(survey(town).run().features, survey(town, core_px=core_px, offset_px=offset_px).run().features)


def test_the_result_does_not_depend_on_the_extent(town: Path):
    whole = survey(town)
    left, bottom, right, top = whole.scene.geobox.boundingbox
    half = (left, bottom, (left + right) / 2, top)
    one, two, inside = whole.run().features, survey(town, ground=half).run().features, shapely.box(*half)
    same(one[one.within(inside)].reset_index(drop=True), two[two.within(inside)].reset_index(drop=True))


def test_ground_without_prompts_is_never_encoded(blocks: Path):
    summary = survey(blocks).run().summary
    assert summary.features == summary.prompts == 5
    assert 0 < summary.windows_refined <= 5 < summary.windows_in_raster
    skipped = summary.windows_in_raster - summary.windows_refined
    told = f"{summary.windows_refined} windows with prompts, by threshold; {skipped} more over the raster hold no"
    assert dict(summary.lines())["refined"] == f"{told} prompt and were skipped"
    coarse = survey(blocks, refiner=None).run().summary
    assert dict(coarse.lines())["refined"] == "nothing: without a refiner the classifier's outlines stand"


def test_refused_masks_leave_the_coarse_outline_and_say_why(blocks: Path):
    kept = survey(blocks).run().features
    refused = survey(blocks, refiner=Threshold(iou=0.1)).run()
    coarse = survey(blocks, refiner=None).run().features
    assert set(kept["origin"]) == {"refined"}
    assert set(refused.features["origin"]) == {"coarse"}
    assert refused.summary.refined == 0
    assert np.allclose(refused.features["iou_pred"], 0.1)
    assert coarse["iou_pred"].isna().all()
    assert shapely.equals(refused.features.geometry.to_numpy(), coarse.geometry.to_numpy()).all()


def test_a_changed_gate_needs_no_second_refining(blocks: Path):
    class Counting(Threshold):
        runs = 0

        def encode(self, chip: Chip) -> np.ndarray:
            Counting.runs += 1
            return super().encode(chip)

    first = survey(blocks, refiner=Counting(iou=0.7))
    refined = first.refine(first.prompts())
    runs = Counting.runs
    strict = replace(first, theme=first.theme.model_copy(update={"gate": Gate(iou_pred=0.8)}))
    assert set(first.features(refined).rows["origin"]) == {"refined"}
    assert set(strict.features(refined).rows["origin"]) == {"coarse"}
    assert Counting.runs == runs > 0


class BrokenAt(Threshold):
    """Fails on windows that hold ground west of x."""

    def __init__(self, x: float) -> None:
        super().__init__()
        object.__setattr__(self, "x", x)

    def encode(self, chip: Chip) -> np.ndarray:
        if chip.geobox.boundingbox.left < self.x:  # type: ignore[attr-defined]
            raise RuntimeError("out of memory")
        return super().encode(chip)


def test_a_failed_window_is_listed_and_its_objects_stay_coarse(blocks: Path):
    left = survey(blocks).scene.geobox.boundingbox.left
    result = survey(blocks, refiner=BrokenAt(left + 2)).run()
    assert result.summary.features == 5
    assert set(result.features["origin"]) == {"coarse", "refined"}
    assert 0 < len(result.summary.failures) < result.summary.windows_refined
    assert "out of memory" in result.summary.failures[0].reason


class Squeamish(Smooth):
    """Cannot shape what lies beyond an x, or more than so many outlines."""

    x: float
    most: int = 99

    def shape(self, features: gpd.GeoDataFrame, gsd_m: float, coarse_m: float = 0.0) -> gpd.GeoDataFrame:
        if (features.bounds["minx"] > self.x).any() or len(features) > self.most:
            raise shapely.errors.GEOSException("TopologyException: side location conflict")
        return super().shape(features, gsd_m, coarse_m=coarse_m)


def test_an_outline_that_geos_cannot_work_with_is_listed_and_stays_as_traced(blocks: Path):
    theme = load_theme("buildings").model_copy(update={"shape": AsTraced()})
    traced = survey(blocks, theme).run().features
    last = traced.loc[traced.bounds["minx"].idxmax()]
    squeamish = theme.model_copy(update={"shape": Squeamish(x=last.geometry.bounds[0] - 0.1)})
    result = survey(blocks, squeamish).run()
    (failure,) = result.summary.failures
    assert failure.place == f"object {last['id']}"
    assert failure.reason == "GEOSException: TopologyException: side location conflict"
    assert result.features["id"].tolist() == traced["id"].tolist()
    stayed = result.features.geometry.geom_equals(traced.geometry)
    assert result.features["id"][stayed].tolist() == [last["id"]]
    assert "1 windows or objects" in dict(result.summary.lines())["FAILED"]


class Grown(AsTraced):
    """Makes outlines that reach far beyond the scene."""

    def shape(self, features: gpd.GeoDataFrame, gsd_m: float, coarse_m: float = 0.0) -> gpd.GeoDataFrame:
        return features.set_geometry(features.buffer(1000.0))


def test_no_outline_reaches_beyond_the_scene(blocks: Path):
    grown = load_theme("buildings").model_copy(update={"shape": Grown()})
    one = survey(blocks, grown)
    features = one.run().features
    assert len(features) == len(BLOCKS)
    assert features.geometry.geom_equals(one.scene.geobox.extent.geom).all()


def test_an_outline_of_which_shaping_leaves_nothing_is_dropped_and_counted(
    blocks: Path, monkeypatch: pytest.MonkeyPatch
):
    theme = load_theme("buildings").model_copy(update={"shape": AsTraced()})
    count = len(survey(blocks, theme).run().features)

    def emptied(_: AsTraced, features: gpd.GeoDataFrame, gsd_m: float, **__: float) -> gpd.GeoDataFrame:
        return features.set_geometry([shapely.Polygon(), *features.geometry.iloc[1:]], crs=features.crs)

    monkeypatch.setattr(AsTraced, "shape", emptied)
    result = survey(blocks, theme).run()
    assert (len(result.features), result.summary.overlapping) == (count - 1, 1)
    assert not result.features.geometry.is_empty.any()


def test_outlines_that_geos_cannot_work_with_together_all_stay_as_traced(blocks: Path):
    theme = load_theme("buildings").model_copy(update={"shape": AsTraced()})
    traced = survey(blocks, theme).run().features
    result = survey(blocks, theme.model_copy(update={"shape": Squeamish(x=1e9, most=3)})).run()
    assert len(result.summary.failures) == len(traced)
    assert result.features.geometry.geom_equals(traced.geometry).all()


def test_a_run_in_which_every_window_fails_has_no_result(blocks: Path):
    class Blind(Bright):
        def predict(self, pixels: np.ndarray) -> np.ndarray:
            raise RuntimeError("shapes differ")

    with pytest.raises(RunError, match=r"the first 1 of 1 windows failed, .*shapes differ; nothing is written"):
        survey(blocks, network=Blind()).run()
    with pytest.raises(RunError, match="out of memory"):
        survey(blocks, refiner=BrokenAt(1e9)).run()


def test_measures_are_in_range(town: Path):
    features = survey(town).run().features
    assert features["score"].between(0, 1).all()
    assert features["agreement"].between(0, 1).all()
    assert features["stability"].between(0, 1).all()
    assert features.geometry.is_valid.all()
    assert (features["area_m2"] / features.area - 1).abs().max() < 0.01


def test_features_can_be_saved_and_put_together(blocks: Path, tmp_path: Path):
    one = survey(blocks).run().features
    one.to_parquet(tmp_path / "one.parquet")
    both = gpd.pd.concat([one, survey(blocks).run().features])
    assert len(both) == 10


def test_steps_are_remembered(blocks: Path):
    class Once(Bright):
        calls = 0

        def predict(self, pixels: np.ndarray) -> np.ndarray:
            Once.calls += 1
            return super().predict(pixels)

    one = survey(blocks, network=Once())
    first, again = one.heatmap(), one.heatmap()
    assert Once.calls == 1
    assert first.path == again.path
    assert len(one.prompts()) == len(one.prompts()) == 5
    assert Once.calls == 1


def test_a_folder_serves_another_process_and_gives_the_same(town: Path, tmp_path: Path):
    class Never(Bright):
        def predict(self, pixels: np.ndarray) -> np.ndarray:
            raise AssertionError("the heatmap is there")

    first = survey(town, store=Folder(tmp_path / "run"), core_px=256).run().features
    again = survey(town, store=Folder(tmp_path / "run"), core_px=256, network=Never(), refiner=BrokenAt(1e9)).run()
    assert first.drop(columns="geometry").equals(again.features.drop(columns="geometry"))
    assert shapely.equals(first.geometry.to_numpy(), again.features.geometry.to_numpy()).all()


def test_a_folder_with_a_damaged_part_makes_it_anew(blocks: Path, tmp_path: Path):
    store = Folder(tmp_path / "run")
    first = survey(blocks, store=store).run().features
    for path in store.folder.glob("*.*"):
        path.write_bytes(b"damaged")
    again = survey(blocks, store=store).run().features
    assert first["id"].tolist() == again["id"].tolist()


class Gap:
    """An engine under which the first window of the first sweep fails."""

    sweeps = 0

    def run(self, tasks, store):
        first = 0
        if isinstance(tasks[0], ClassifyTask):
            self.sweeps += 1
            first = 1
            yield Done(tasks[0], failure=Failure(tasks[0].place, "damaged block"))
        yield from Serial().run(tasks[first:], store)


@pytest.mark.parametrize("kept", [True, False])
def test_a_heatmap_with_a_gap_serves_one_run_and_no_other(town: Path, tmp_path: Path, kept: bool):
    store, gap = (Folder(tmp_path / "run") if kept else Memory()), Gap()
    whole = survey(town, core_px=128)
    left, bottom, right, top = whole.scene.geobox.boundingbox
    extent = (left, bottom, right, top)
    broken = survey(town, core_px=128, store=store, engine=gap, ground=extent).run()
    assert gap.sweeps == 1, "the sweep is made once, gap or not"
    assert [failure.reason for failure in broken.summary.failures] == ["damaged block"]
    again = survey(town, core_px=128, store=store, ground=extent).run()
    assert again.summary.failures == ()
    assert len(again.features) > len(broken.features)
    same(again.features, replace(whole, ground=extent).run().features)
    left = [path.name for path in store.folder.iterdir() if path.is_dir()]
    assert left == ["claims"] * kept, "what has a gap is not left behind"


def test_a_heatmaps_file_goes_with_the_last_who_holds_it(blocks: Path):
    one = survey(blocks)
    heatmap = one.heatmap()
    path = heatmap.path
    del one
    assert path.exists()
    del heatmap
    assert not path.exists()
    assert not path.parent.exists()


def test_a_network_whose_classes_have_other_names_is_another(blocks: Path, tmp_path: Path):
    store = Folder(tmp_path / "run")
    survey(blocks, store=store).heatmap()
    theme = load_theme("buildings").model_copy(update={"label": "house"})
    renamed = Bright(spec=replace(Bright.spec, classes=("house",)))
    assert len(survey(blocks, theme=theme, network=renamed, store=store).prompts()) == 5


def test_smaller_steps_give_the_same(town: Path):
    """What lacks memory is done in them; see `Task.lighter`."""
    caught: dict[str, Any] = {}

    class Catching:
        def run(self, tasks, store):
            for task in tasks:
                caught.setdefault(type(task).__name__, task)
            return Serial().run(tasks, store)

    replace(survey(town), engine=Catching()).run()
    whole, less = caught["ClassifyTask"], caught["ClassifyTask"].lighter()
    assert less.key == whole.key
    assert whole.side_px is None
    assert less.side_px == whole.core.width // 2
    assert less.lighter() is None
    one, two = whole(), less()
    assert one.window == two.window
    assert (one.valid == two.valid).all()
    np.testing.assert_allclose(np.where(one.valid, one.values, 0), np.where(two.valid, two.values, 0), atol=1e-6)
    whole, less = caught["RefineTask"], caught["RefineTask"].lighter()
    assert (less.key, less.stage.batch) == (whole.key, 16)
    assert shapely.equals(whole().geometry.to_numpy(), less().geometry.to_numpy()).all()
    steps = 0
    while (less := less.lighter()) is not None:
        steps += 1
    assert steps == 4
    assert all(caught[name].lighter() is None for name in ("FindTask", "JoinTask", "ShapeTask"))


def test_tasks_pickle_and_have_stable_keys(blocks: Path):
    one = survey(blocks)
    caught = []

    class Catching:
        def run(self, tasks, store):
            caught.extend(tasks)
            return Serial().run(tasks, store)

    replace(one, engine=Catching()).run()
    assert {type(task).__name__ for task in caught} == {
        "ClassifyTask",
        "FindTask",
        "RefineTask",
        "JoinTask",
        "ShapeTask",
    }
    for task in caught:
        copy = pickle.loads(pickle.dumps(task))
        assert copy.key == task.key
        assert copy.place == task.place
    assert len({task.key for task in caught}) == len(caught)


def test_a_click_needs_no_support(blocks: Path):
    one = survey(blocks)
    x, y = one.scene.geobox.affine * (60, 50)
    record = ("click", "building", 1.0, x, y, shapely.MultiPoint([(x, y)]), shapely.MultiPoint(), None)
    refined = one.refine(Prompts.from_records([record], one.scene.crs))
    (row,) = refined.rows.itertuples()
    assert row.outline.area == pytest.approx(40 * 60 * 0.09, rel=0.1)
    assert np.isnan(row.agreement)
    assert one.features(refined).rows["origin"].tolist() == ["refined"]


def test_ids_that_are_shared_are_refused(blocks: Path):
    one = survey(blocks)
    rows = one.prompts().rows.assign(id="same")
    with pytest.raises(PromptsError, match=r"5 prompts share ids, as 'same'"):
        one.refine(Prompts(rows))


def test_a_class_that_the_classifier_does_not_know_is_refused(blocks: Path):
    theme = load_theme("buildings").model_copy(update={"label": "house"})
    with pytest.raises(ThemeError, match=r"buildings looks for house, .* knows building; give"):
        survey(blocks, theme=theme)


def test_a_scene_that_is_too_coarse_is_refused(tmp_path: Path):
    with pytest.raises(TooCoarse, match=r"5 m pixels; theme buildings needs 0.6 m or finer"):
        survey(make("utm", tmp_path, gsd_m=5))


def test_a_heatmap_that_two_surveys_share_counts_once(blocks: Path):
    store = Memory()
    one, two = survey(blocks, store=store), survey(blocks, refiner=None, store=store)
    steps: list[Steps] = [one.steps(), two.steps()]
    summary = Result.of(one.scene, steps).summary
    assert summary.windows_classified == 1
    assert summary.prompts == 10


def test_refined_masks_are_a_file(blocks: Path, tmp_path: Path):
    one: Survey = survey(blocks)
    refined = one.refine(one.prompts())
    refined.write(tmp_path / "refined.parquet")
    back = Refined.read(tmp_path / "refined.parquet", one.scene.crs)
    assert key_of("rows", back) == key_of("rows", refined)
    assert one.features(back).rows["id"].tolist() == one.features(refined).rows["id"].tolist()


def test_large_tables_wait_in_files_and_change_nothing(blocks: Path, monkeypatch: pytest.MonkeyPatch):
    plain = survey(blocks).steps()
    monkeypatch.setattr(tables, "IN_MEMORY", 3)
    monkeypatch.setattr(rowfile, "AT_ONCE", 2)
    looked = survey(blocks)
    steps = looked.steps()
    assert isinstance(steps.load_prompts().held, rowfile.RowFile)
    assert isinstance(steps.refined.held, rowfile.RowFile)
    assert key_of("rows", steps.load_prompts()) == key_of("rows", plain.load_prompts())
    assert key_of("rows", steps.refined) == key_of("rows", plain.refined)
    assert key_of("rows", steps.features) == key_of("rows", plain.features)
    again = looked.steps()
    assert again.refined.sweep.reused == again.refined.sweep.windows > 0
    assert key_of("rows", again.features) == key_of("rows", plain.features)


def test_prompts_that_lack_failed_windows_can_be_asked_for(blocks: Path):
    looked = survey(blocks)
    whole = looked.prompts()
    found = replace(whole, sweep=replace(whole.sweep, failures=(Failure("block 1", "damaged"),)))
    object.__setattr__(looked, "prompts", lambda heatmap: found)
    steps = looked.steps()
    assert steps.found.failures == found.sweep.failures == steps.failures
    assert key_of("rows", steps.load_prompts()) == key_of("rows", whole)


def test_a_grid_of_points_gives_masks_or_nothing(blocks: Path, tmp_path: Path):
    grid = load_theme("buildings").model_copy(update={"shape": AsTraced(), "objects": Grid(step_m=3, object_m=24)})
    theme = grid.model_copy(update={"prompts": grid.prompts.model_copy(update={"parts": frozenset({"points"})})})
    steps = survey(blocks, theme).steps()
    found, objects = steps.features.rows, survey(blocks).run().features
    assert set(found["origin"]) == {"refined"}
    assert len(found) == len(objects)
    # without a box a window is wide, its mask coarse
    assert found.geometry.within(objects.geometry.union_all().buffer(3)).all()
    steps.refined.write(tmp_path / "refined.parquet")
    back = Refined.read(tmp_path / "refined.parquet", found.crs)
    assert survey(blocks, theme).features(back).rows["id"].tolist() == found["id"].tolist()
    # from its own prompts the same: they hold no score
    prompts = steps.load_prompts()
    prompts.take(prompts.rows["id"].isin(found["id"])).write(tmp_path / "prompts.parquet")
    second = survey(blocks, theme)
    (again,) = start_from([second], read_prompts(tmp_path / "prompts.parquet", [theme.label], second.scene))
    assert again.features.rows["score"].tolist() == found["score"].tolist()
    assert (found["score"] > 0.5).all()
    # a point's square is no outline that could stay
    refused = survey(blocks, theme, refiner=Threshold(iou=0.1)).run()
    assert (len(refused.features), refused.summary.refined, refused.summary.coarse) == (0, 0, 0)
