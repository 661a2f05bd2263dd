from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridseg.folders import TemporaryFolder
from hybridseg.heatmap import Heatmap, HeatmapPart, create_heatmap
from hybridseg.run.store import KINDS, Folder, Memory, Store, key_of
from hybridseg.tables import Prompts, Refined
from hybridseg.types import Failure, Settings, Window
from hybridseg.where.refine import PromptSettings
from tests.conftest import geobox

CRS = "EPSG:32645"
WINDOW = Window(0, 0, 64, 64)


def prompts() -> Prompts:
    point, none = shapely.MultiPoint([(0, 0)]), shapely.MultiPoint()
    records = [(f"b-{k}", "building", 0.5, k, 0.0, point, none, shapely.box(k, 0, k + 1, 1)) for k in range(3)]
    return Prompts.from_records(records, CRS)


def part() -> HeatmapPart:
    values = np.rint(np.random.default_rng(0).random((2, 64, 64)) * 254) / 254
    return HeatmapPart(values.astype(np.float32), np.ones((64, 64), bool), WINDOW)


def heatmap(folder: Path) -> Heatmap:
    path = folder / "made.tif"
    with create_heatmap(path, geobox(), ["building"]) as file:
        file.write(part())
    return Heatmap.open(path, "made of this")


def values(folder: Path) -> dict[str, Any]:
    """One of each kind."""
    refined = Refined.from_prompts(prompts(), [shapely.box(0, 0, 1, 1), None, None], np.full((3, 3), 0.5))
    rows = gpd.GeoDataFrame({"score": [0.5]}, geometry=[shapely.box(0, 0, 1, 1)], crs=CRS)
    tables = {"prompts": prompts(), "refined": refined, "rows": rows}
    return {
        "heatmap": heatmap(folder),
        "part": part(),
        "failed": Failure("window 3", "damaged"),
        "written": ("/map.gpkg", 5, 7),
        **tables,
    }


def content(value: Any) -> object:
    """What two equal values have in common."""
    match value:
        case Heatmap():
            return [part.tolist() for part in value.read(WINDOW, "building")], value.geobox, value.classes
        case HeatmapPart():
            return value.values.tolist(), value.valid.tolist(), value.window
        case gpd.GeoDataFrame():
            return value.to_json()
        case Failure() | tuple() | None:
            return value
        case _:
            return type(value).__name__, key_of("rows", value)


def stores(folder: Path) -> list[Store]:
    return [Memory(), Folder(folder / "store")]


@pytest.mark.parametrize("kind", KINDS)
def test_a_value_is_remembered_under_its_key(kind: str, tmp_path: Path) -> None:
    value = values(tmp_path)[kind]
    for store in stores(tmp_path):
        assert store.load(key_of(kind, 1)) is None
        store.save(key_of(kind, 1), value)
        assert content(store.load(key_of(kind, 1))) == content(value)
        assert store.load(key_of(kind, 2)) is None


@pytest.mark.parametrize("kind", KINDS)
def test_another_process_finds_what_a_folder_holds(kind: str, tmp_path: Path) -> None:
    value = values(tmp_path)[kind]
    Folder(tmp_path / "store").save(key_of(kind, 1), value)
    assert content(Folder(tmp_path / "store").load(key_of(kind, 1))) == content(value)
    assert len(list((tmp_path / "store").iterdir())) == 1
    assert Memory().load(key_of(kind, 1)) is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("left", ["nothing", "half", "other bytes", "a folder"])
def test_a_damaged_file_counts_as_missing_and_is_replaced(kind: str, left: str, tmp_path: Path) -> None:
    store, value = Folder(tmp_path / "store"), values(tmp_path)[kind]
    store.save(key_of(kind, 1), value)
    (path,) = store.folder.iterdir()
    whole = path.read_bytes()
    if left == "a folder":
        path.unlink()
        path.mkdir()
        assert store.load(key_of(kind, 1)) is None
        return
    path.write_bytes({"nothing": b"", "half": whole[: len(whole) // 2], "other bytes": b"damaged" * 99}[left])
    assert store.load(key_of(kind, 1)) is None
    store.save(key_of(kind, 1), value)
    assert content(store.load(key_of(kind, 1))) == content(value)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # rasterio's, of messages in no UTF-8
@settings(max_examples=150, deadline=None)
@given(kind=st.sampled_from(list(KINDS)), place=st.floats(0, 1), by=st.integers(1, 255), length=st.integers(1, 40))
def test_changed_bytes_never_raise(kind: str, place: float, by: int, length: int, saved: dict[str, Path]) -> None:
    path = saved[kind]
    whole = bytearray(path.read_bytes())
    at = int(place * (len(whole) - length))
    changed = bytes((byte + by) % 256 for byte in whole[at : at + length])
    copy = path.parent / "copy"
    copy.mkdir(exist_ok=True)
    (copy / path.name).write_bytes(whole[:at] + changed + whole[at + length :])
    loaded = Folder(copy).load(path.stem)
    if loaded is not None and kind in ("heatmap", "part"):
        content(loaded)  # what is loaded can be read


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file of each kind."""
    folder = tmp_path_factory.mktemp("saved")
    store, paths = Folder(folder / "store"), {}
    for kind, value in values(folder).items():
        key = key_of(kind, 1)
        store.save(key, value)
        (paths[kind],) = store.folder.glob(f"{key}.*")
    return paths


def test_memory_keeps_no_parts_and_a_folder_does(tmp_path: Path) -> None:
    assert [store.keeps_parts for store in stores(tmp_path)] == [False, True]


def test_the_folder_of_a_memory_goes_with_it() -> None:
    store = Memory()
    folder = store.folder
    (folder / "heatmap.tif").touch()
    assert folder.is_dir()
    del store
    gc.collect()
    assert not folder.exists()


def test_a_heatmap_outlives_the_memory_that_it_came_from(tmp_path: Path) -> None:
    store = Memory()
    with create_heatmap(store.folder / "h.tif", geobox(), ["building"]) as file:
        file.write(part())
    made = Heatmap.open(store.folder / "h.tif")
    held = Heatmap(made.path, made.geobox, made.classes, owner=store)
    del store
    gc.collect()
    assert held.read(WINDOW, "building")[2].all()


# --- keys -------------------------------------------------------------------------------------------------------------


class Other(Settings):
    """Settings with the same fields as others."""

    negatives: int = 3


class Same(Settings):
    """Settings with the same fields as others."""

    negatives: int = 3


def test_a_key_names_its_kind_and_everything_it_is_made_of() -> None:
    made_of: list[tuple[object, ...]] = [
        (),
        (1,),
        (2,),
        ("1",),
        (1, 2),
        ((1, 2),),
        ("1", "2"),
        ("12",),
        (None,),
        (WINDOW,),
        (Window(0, 0, 64, 65),),
        (geobox(),),
        (geobox(pixel=0.25),),
        (geobox(x=1.0),),
        (geobox(side=32),),
        (PromptSettings(),),
        (PromptSettings(negatives=2),),
        (Other(),),
        (Same(),),
        ((PromptSettings(), geobox()),),
        ((PromptSettings(negatives=2), geobox()),),
        ((PromptSettings(), geobox(side=32)),),
    ]
    keys = [key_of("rows", *parts) for parts in made_of]
    assert len(set(keys)) == len(keys)
    assert keys == [key_of("rows", *parts) for parts in made_of]
    assert key_of("part", 1) != key_of("rows", 1)
    assert key_of("part", 1).startswith("part-")


def test_a_key_does_not_depend_on_the_process() -> None:
    """Strings hash differently in each process, and with them the order of a set."""
    ask = (
        "from hybridseg.run.store import key_of; from hybridseg.where.refine import PromptSettings; "
        "from tests.conftest import geobox; parts = frozenset({'box', 'points', 'hint'}); "
        "print(key_of('rows', PromptSettings(parts=parts), parts, (parts, geobox()), geobox()))"
    )
    found = set()
    for seed in ("1", "2", "3"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", ask], env=environment, capture_output=True, text=True, check=True,
            cwd=Path(__file__).parents[2],
        )  # fmt: skip
        found.add(done.stdout)
    assert len(found) == 1
    parts = frozenset({"box", "points", "hint"})
    assert found == {key_of("rows", PromptSettings(parts=parts), parts, (parts, geobox()), geobox()) + "\n"}


def test_what_has_no_lasting_name_is_no_part_of_a_key() -> None:
    for thing in (object(), lambda: None, np.zeros(3)):
        with pytest.raises(TypeError, match="key"):
            key_of("rows", thing)


@pytest.mark.skipif(sys.platform == "win32", reason="no advisory locks on folders")
def test_the_folder_of_a_killed_run_goes_when_the_next_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made = "import sys, os; from hybridseg.folders import TemporaryFolder; kept = TemporaryFolder(sys.argv[1])"
    code = f"{made}; os._exit(9)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    other = tmp_path / "hybridseg-of-somebody-else"
    other.mkdir()
    (left,) = tmp_path.glob("hybridseg-run-*")
    for folder in (left, other):
        os.utime(folder, (1, 1))
    monkeypatch.setattr("hybridseg.folders._LOOKED", {})
    held = TemporaryFolder(tmp_path)
    os.utime(held.path, (1, 1))
    assert not left.exists()
    monkeypatch.setattr("hybridseg.folders._LOOKED", {})
    second = TemporaryFolder(tmp_path)
    assert held.path.is_dir()
    assert other.is_dir()
    folder = held.path
    del held
    assert not folder.exists()
    assert second.path.is_dir()
