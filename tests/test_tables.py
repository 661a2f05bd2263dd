from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

from hybridseg.errors import OutputError, PromptsError
from hybridseg.run.store import key_of
from hybridseg.tables import FIGURES, PROMPT_COLUMNS, REFINED_COLUMNS, Features, Prompts, Refined
from hybridseg.types import FEATURE_COLUMNS, Failure, Sweep

CRS = "EPSG:32645"
SWEEP = Sweep(3, 9, 1.5, (Failure("window at column 0", "damaged"),))


def record(k: int, **changes: object) -> tuple[object, ...]:
    """The k-th of a row of squares of 10 m, with its middle as the positive point."""
    x, y = 500_000 + 20.0 * k, 3_000_000.0
    values: dict[str, object] = {
        "id": f"building-{k}",
        "class": "building",
        "score": 0.5 + k / 20,
        "peak_x": x,
        "peak_y": y,
        "positive": shapely.MultiPoint([(x, y)]),
        "negative": shapely.MultiPoint([(x + 20, y), (x - 20, y)][:k]),
        "support": shapely.box(x - 5, y - 5, x + 5, y + 5),
    }
    return tuple((values | changes)[name] for name in PROMPT_COLUMNS)


def prompts(count: int = 4) -> Prompts:
    return replace(Prompts.from_records([record(k) for k in range(count)], CRS), sweep=SWEEP)


def refined(count: int = 4) -> Refined:
    """Every other prompt has a mask: its support, a metre smaller all round."""
    asked = prompts(count)
    outlines = [None if k % 2 else s.buffer(-1) for k, s in enumerate(asked.rows["support"])]
    figures = np.array([[np.nan] * 3 if k % 2 else [0.9, 0.8, 0.1 * k] for k in range(count)]).reshape(-1, 3)
    return replace(Refined.from_prompts(asked, outlines, figures), sweep=SWEEP)


def features(count: int = 2) -> Features:
    rows = {
        name: ["x"] * count if name in ("id", "class", "origin") else [0.5] * count for name in FEATURE_COLUMNS[:-1]
    }
    return Features(gpd.GeoDataFrame(rows, geometry=[shapely.box(0, 0, 1, 1)] * count, crs=CRS), SWEEP, dropped=3)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"score": 1.1}, "score 1.1; scores are from 0 to 1"),
        ({"score": -0.1}, "score -0.1"),
        ({"score": float("nan")}, "score nan"),
        ({"support": None, "positive": shapely.MultiPoint()}, "1 prompts have neither an outline nor a point"),
        ({"support": shapely.Polygon(), "positive": shapely.MultiPoint()}, "neither an outline nor a point"),
        ({"support": shapely.box(0, 0, 1, np.inf)}, "not finite"),
    ],
)
def test_prompts_that_cannot_be_used_are_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(PromptsError, match=said) as caught:
        Prompts.from_records([record(0), record(1, **changes)], CRS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("missing", PROMPT_COLUMNS[:-1])
def test_prompts_without_a_column_are_refused(missing: str) -> None:
    with pytest.raises(PromptsError, match=rf"prompts lack the columns {missing}; give id, class"):
        Prompts(prompts().rows.drop(columns=missing))


def test_tables_without_a_crs_are_refused() -> None:
    for table in (prompts(), refined(), features()):
        rows = pd.DataFrame(table.rows)
        name = table.rows.geometry.name
        bare = gpd.GeoDataFrame(rows.assign(**{name: gpd.GeoSeries(list(rows[name]))}), geometry=name)
        with pytest.raises(PromptsError, match="have no CRS"):
            type(table)(bare)


@pytest.mark.parametrize("missing", [name for name in REFINED_COLUMNS if name != "outline"])
def test_refined_masks_without_a_column_are_refused(missing: str) -> None:
    with pytest.raises(PromptsError, match=f"lack the columns {missing}"):
        Refined(refined().rows.drop(columns=missing))


def test_refined_masks_with_a_score_that_is_none_are_refused() -> None:
    for score in (2.0, np.nan, "high"):
        rows = refined().rows
        with pytest.raises(PromptsError, match=f"refined masks hold the score {score}"):
            Refined(rows.assign(score=[0.1, 0.2, score, 0.3]))


def test_features_without_a_column_are_refused() -> None:
    with pytest.raises(PromptsError, match="features lack the columns origin"):
        Features(features().rows.drop(columns="origin"))


# --- making -----------------------------------------------------------------------------------------------------------


def test_prompts_from_records_have_their_columns_and_types() -> None:
    rows = prompts().rows
    assert list(rows.columns) == list(PROMPT_COLUMNS)
    assert rows.geometry.name == "support"
    assert rows["id"].dtype == rows["class"].dtype == "string"
    assert rows["score"].dtype == float
    for name in ("positive", "negative", "support"):
        assert isinstance(rows[name], gpd.GeoSeries)
        assert rows[name].crs == CRS


def test_a_click_has_a_point_and_no_outline() -> None:
    click = Prompts.from_records([record(0, support=None)], CRS)
    assert click.rows["support"].isna().all()


def test_empty_tables_have_columns_types_and_crs() -> None:
    asked = Prompts.from_records([], CRS)
    for table, columns in ((asked, PROMPT_COLUMNS), (Refined.from_prompts(asked), REFINED_COLUMNS)):
        assert len(table) == 0
        assert list(table.rows.columns) == list(columns)
        assert table.crs == CRS
        assert table.rows["score"].dtype == float
        assert len(table.take(np.zeros(0, bool))) == 0


def test_refined_of_nothing_asked_has_no_masks() -> None:
    rows = Refined.from_prompts(prompts())
    assert not rows.masked.any()
    assert rows.rows[list(FIGURES)].isna().all(axis=None)
    assert rows.rows["support"].tolist() == prompts().rows["support"].tolist()


def test_masked_says_which_rows_have_an_outline() -> None:
    table = refined()
    assert table.masked.tolist() == [True, False, True, False]
    assert table.rows.geometry.name == "outline"
    assert table.rows["agreement"].tolist()[:3:2] == [0.0, 0.2]
    assert list(table.rows.columns) == list(REFINED_COLUMNS)


# --- taking and putting together --------------------------------------------------------------------------------------


@pytest.mark.parametrize("chosen", [np.array([False, True, False, True]), np.array([1, 3]), pd.Series([1, 3])])
def test_rows_are_taken_by_mask_or_by_position(chosen: np.ndarray | pd.Series) -> None:
    for table in (prompts(), refined()):
        taken = table.take(chosen)
        assert type(taken) is type(table)
        assert taken.rows["id"].tolist() == ["building-1", "building-3"]
        assert taken.rows.index.tolist() == [0, 1]
        assert taken.sweep == SWEEP
    assert prompts().take(np.array([3, 0])).rows["id"].tolist() == ["building-3", "building-0"]


def test_a_mask_with_an_index_of_its_own_is_taken_by_place() -> None:
    mask = pd.Series([True, False, False, True], index=[7, 8, 9, 10])
    assert prompts().take(mask).rows["id"].tolist() == ["building-0", "building-3"]


def test_taking_keeps_what_the_table_knows_besides() -> None:
    assert features().take(np.array([0])).dropped == 3


def test_parts_put_together_are_the_whole() -> None:
    for whole, empty in ((prompts(), prompts(0)), (refined(), refined(0))):
        parts = [whole.take(np.array([0])), empty, whole.take(np.array([1, 2, 3])), empty]
        joined = type(whole).concat(parts, CRS)
        assert key_of("rows", joined) == key_of("rows", whole)
        assert joined.rows.index.tolist() == [0, 1, 2, 3]
        assert len(type(whole).concat([empty, empty], CRS)) == 0
    assert key_of("rows", Prompts.concat(iter([prompts()]), CRS)) == key_of("rows", prompts())
    assert len(Prompts.concat([], CRS)) == 0


def test_prompts_inside_an_extent_are_those_whose_peak_is() -> None:
    assert prompts().within((500_000, 2_999_999, 500_030, 3_000_001)).tolist() == [True, True, False, False]
    assert (
        not prompts().within((500_005, 2_999_999, 500_015, 3_000_001)).any()
    )  # between two peaks, within both outlines


# --- keys -------------------------------------------------------------------------------------------------------------


def test_a_key_is_of_the_values_alone() -> None:
    for table in (prompts(), refined()):
        same = replace(table, held=table.rows.set_index(np.arange(4) + 9), sweep=Sweep())
        assert key_of("rows", same) == key_of("rows", table)
        assert key_of("rows", replace(table, held=table.rows.copy())) == key_of("rows", table)


@pytest.mark.parametrize("table", [prompts(), refined()], ids=["prompts", "refined"])
def test_any_value_changes_the_key(table: Prompts | Refined) -> None:
    known = {key_of("rows", table)}
    for name in table.rows.columns:
        rows = table.rows.copy()
        if isinstance(rows[name], gpd.GeoSeries):
            rows[name] = rows[name].translate(1e-6)
        elif rows[name].dtype == float:
            rows[name] = [0.123, *rows[name][1:]]
        else:
            rows[name] = ["other", *rows[name][1:]]
        changed = key_of("rows", type(table)(rows))
        assert changed not in known, name
        known.add(changed)
    assert key_of("rows", table.take(np.array([1, 0, 2, 3]))) not in known
    assert key_of("rows", table.take(np.array([0, 1, 2]))) not in known
    moved = {name: table.rows[name].set_crs(32646, allow_override=True) for name in ("support",)}
    rows = table.rows.assign(**moved).set_crs(32646, allow_override=True)
    assert key_of("rows", type(table)(rows)) not in known


def test_the_key_is_the_same_in_every_process() -> None:
    ask = (
        "from hybridseg.run.store import key_of; from tests.test_tables import prompts, refined; "
        "print(key_of('rows', prompts()), key_of('rows', refined()))"
    )
    found = set()
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", ask], capture_output=True, text=True, check=True,
            cwd=Path(__file__).parents[1], env={"PYTHONHASHSEED": seed, "PYTHONPATH": "."},
        )  # fmt: skip
        found.add(done.stdout.strip())
    assert found == {f"{key_of('rows', prompts())} {key_of('rows', refined())}"}


# --- files ------------------------------------------------------------------------------------------------------------


def test_prompts_written_and_read_are_the_same(tmp_path: Path) -> None:
    for count in (4, 0):
        table = prompts(count)
        table.write(tmp_path / "p.parquet")
        assert key_of("rows", Prompts(gpd.read_parquet(tmp_path / "p.parquet"))) == key_of("rows", table)
    click = Prompts.from_records([record(0, support=None), record(1)], CRS)
    click.write(tmp_path / "p.parquet")
    assert key_of("rows", Prompts(gpd.read_parquet(tmp_path / "p.parquet"))) == key_of("rows", click)


def test_refined_written_and_read_are_the_same(tmp_path: Path) -> None:
    for count in (4, 0):
        table = refined(count)
        table.write(tmp_path / "r.parquet")
        back = Refined.read(tmp_path / "r.parquet", CRS)
        assert key_of("rows", back) == key_of("rows", table)
        assert back.masked.tolist() == table.masked.tolist()


def test_refined_masks_are_read_into_another_crs_whole(tmp_path: Path) -> None:
    table = refined()
    table.write(tmp_path / "r.parquet")
    back = Refined.read(tmp_path / "r.parquet", "EPSG:32646")
    assert back.crs == "EPSG:32646"
    for name in ("support", "outline"):
        wanted = table.rows[name].to_crs(32646)
        assert back.rows[name].crs == "EPSG:32646"
        assert back.rows[name].geom_equals_exact(wanted, 1e-6)[table.masked].all()
    peaks = gpd.GeoSeries.from_xy(back.rows["peak_x"], back.rows["peak_y"], crs=32646)
    assert back.rows["support"].contains(peaks).all()


def test_what_is_no_file_of_refined_masks_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("no")
    prompts().write(tmp_path / "prompts.parquet")
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "plain.parquet")
    for name, said in (
        ("gone.parquet", "cannot read refined masks"),
        ("text.parquet", "cannot read refined masks"),
        ("plain.parquet", "cannot read refined masks"),
        ("prompts.parquet", "prompts.parquet lack the columns iou_pred"),
    ):
        with pytest.raises(PromptsError, match=said) as caught:
            Refined.read(tmp_path / name, CRS)
        assert "\n" not in str(caught.value)


def test_a_table_that_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="folder"):
        prompts().write(tmp_path / "none" / "p.parquet")
    prompts().write(tmp_path / "p.parquet")
    before = (tmp_path / "p.parquet").read_bytes()
    refused = replace(prompts(), held=prompts().rows.assign(other=[object()] * 4))  # no type that Parquet has
    with pytest.raises(Exception, match="object"):
        refused.write(tmp_path / "p.parquet")
    assert (tmp_path / "p.parquet").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["p.parquet"]
