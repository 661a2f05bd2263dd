"""A layer from elsewhere: shifted, vanished, lacking objects are told, and the difference has the old ids."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

from hybridseg.cli import main
from hybridseg.errors import ReviewError
from hybridseg.reviewing import check as checking
from hybridseg.reviewing import desk as desks
from hybridseg.reviewing.desk import Desk
from hybridseg.reviewing.difference import likeness
from hybridseg.reviewing.findings import FLAGGED
from hybridseg.write.result import read_provenance, read_result
from tests.outlines import iou
from tests.reviewing.conftest import Client

SHIFT_M = 4.0


@pytest.fixture(scope="session")
def elsewhere(town: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, gpd.GeoDataFrame]:
    """The truth in degrees, some lacking, some shifted, some invented, one far away; and what is what."""
    truth = gpd.read_file(town[1], layer="map")
    large = np.flatnonzero(truth.area > 40)
    what = np.full(len(truth), "same", object)
    what[large[::4]], what[large[1::4]] = "shifted", "lacking"
    drawn = truth.geometry.to_numpy().copy()
    drawn[what == "shifted"] = shapely.transform(drawn[what == "shifted"], lambda xy: np.add(xy, (SHIFT_M, 0)))
    known = gpd.GeoDataFrame({"what": what, "truth": truth.geometry.to_numpy()}, geometry=drawn, crs=truth.crs)
    x0, y0, x1, y1 = truth.total_bounds
    rng, taken = np.random.default_rng(0), truth.union_all().buffer(3)
    corners = rng.uniform((x0, y0), (x1 - 9, y1 - 7), (500, 2))
    boxes = [one for one in (shapely.box(x, y, x + 9, y + 7) for x, y in corners) if not one.intersects(taken)][:3]
    assert len(boxes) == 3
    far = shapely.box(x1 + 5000, y1, x1 + 5010, y1 + 10)
    invented = gpd.GeoDataFrame({"what": ["invented"] * 3 + ["far"]}, geometry=[*boxes, far], crs=truth.crs)
    known = gpd.GeoDataFrame(pd.concat([known, invented], ignore_index=True), crs=truth.crs)
    known["osm_id"] = [f"w{number}" for number in range(len(known))]
    path = tmp_path_factory.mktemp("elsewhere") / "osm.gpkg"
    known.loc[known["what"] != "lacking", ["osm_id", "geometry"]].to_crs(4326).to_file(path)
    return path, known.set_index("osm_id")


@pytest.fixture
def desk(town: tuple[Path, Path], elsewhere: tuple[Path, gpd.GeoDataFrame], tmp_path: Path) -> Iterator[Desk]:
    given = {"theme": "buildings", "edits": tmp_path / "edits.gpkg", "who": "Ada", "device": "cpu"}
    with Desk.open(town[0], layer=elsewhere[0], **given) as opened:
        yield opened


def of(desk: Desk, known: gpd.GeoDataFrame, what: str) -> list[int]:
    """Keys of objects of which that is true."""
    return [key for key, one in desk.before.items() if known.loc[one.id, "what"] == what]


def test_imagery_tells_what_is_shifted_vanished_and_lacking(desk: Desk, elsewhere: tuple[Path, gpd.GeoDataFrame]):
    known, said = elsewhere[1], desk.findings
    assert not of(desk, known, "far")
    shifted = of(desk, known, "shifted")
    moved = [key for key in shifted if said[key].said == "moved"]
    assert len(moved) >= 0.6 * len(shifted)
    for key in moved:
        one, truth = desk.before[key], known.loc[desk.before[key].id, "truth"]
        assert iou(said[key].place, truth) > iou(one.geometry, truth)
        assert abs(said[key].shift_m - SHIFT_M) < 2
    assert {said[key].said for key in of(desk, known, "invented")} == {"removed"}
    same = [said[key].said for key in of(desk, known, "same")]
    assert same.count("kept") >= 0.7 * len(same)
    assert same.count("removed") <= 0.02 * len(same)
    proposals = [one for one in desk.edits.all() if one.verdict == "proposed"]
    assert {one.key for one in proposals} == {key for key, one in said.items() if one.said == "added"}
    lacking = known.loc[known["what"] == "lacking", "truth"]
    hit = [max((iou(one.geometry, truth) for one in proposals), default=0) > 0.5 for truth in lacking]
    assert np.mean(hit) >= 0.6


def test_the_queue_begins_with_what_disagrees_and_the_sample_is_of_the_layer(desk: Desk):
    flagged = [one.said in FLAGGED for one in (desk.findings[key] for key in desk.order.keys[:9])]
    assert all(flagged)
    assert sorted(desk.order.keys) == sorted(desk.findings)
    assert sorted(desk.order.drawn) == sorted(desk.before)
    scores = [one.score for one in desk.edits.get(desk.before)]
    assert np.isfinite(scores).all()
    assert all(np.isfinite(one.agreement) for one in desk.edits.get(desk.before) if one.iou_pred > 0)


def test_it_is_looked_at_once(
    desk: Desk, town: tuple[Path, Path], elsewhere: tuple[Path, gpd.GeoDataFrame], monkeypatch: pytest.MonkeyPatch
):
    def again(*_: object) -> None:
        raise AssertionError("the imagery was asked again")

    monkeypatch.setattr(desks, "check", again)
    given = {"theme": "buildings", "edits": desk.edits.path, "device": "cpu"}
    with Desk.open(town[0], layer=elsewhere[0], **given) as opened:
        assert opened.order == desk.order
        assert opened.findings.keys() == desk.findings.keys()
        assert {one.said for one in opened.findings.values()} == {one.said for one in desk.findings.values()}


def test_the_difference_has_what_was_decided_and_else_what_imagery_says(
    desk: Desk, elsewhere: tuple[Path, gpd.GeoDataFrame], tmp_path: Path
):
    by: dict[str, list[int]] = {}
    for key, one in desk.findings.items():
        by.setdefault(one.said, []).append(key)
    names = {key: one.id for key, one in desk.before.items()}
    desk.export(tmp_path / "before.gpkg", difference=True)
    machine = read_result(tmp_path / "before.gpkg")
    assert machine["difference"].value_counts().to_dict() == {said: len(keys) for said, keys in by.items()}
    assert set(machine["verdict"]) == {"unseen", "proposed"}
    rows = machine.set_index("old_ids")
    place = desk.findings[by["moved"][0]].place
    assert rows.loc[names[by["moved"][0]], "geometry"].equals(place)

    desk.decide("accept", by["moved"][0])  # it stays where it is
    desk.decide("replace", by["moved"][1], geometry=desk.findings[by["moved"][1]].place)
    desk.decide("reject", by["kept"][0])
    desk.decide("accept", by["kept"][1])
    other = shapely.transform(desk.before[by["kept"][2]].geometry, lambda xy: xy * 1.0000001)
    desk.decide("replace", by["kept"][2], geometry=other)
    first, second = by["kept"][3], by["kept"][4]
    desk.decide("merge", first, second)
    left, bottom, right, top = desk.before[by["kept"][5]].geometry.bounds
    line = shapely.LineString([(left - 1, (bottom + top) / 2), (right + 1, (bottom + top) / 2)])
    desk.decide("split", by["kept"][5], geometry=line)
    desk.decide("accept", by["added"][0])
    desk.decide("reject", by["added"][1])
    count = desk.export(tmp_path / "after.gpkg", decided_only=True, difference=True)
    rows = read_result(tmp_path / "after.gpkg")
    assert count == len(rows)
    told = rows.groupby("old_ids")["difference"].agg(sorted).to_dict()
    union = next(olds for olds in told if " " in olds)
    assert sorted(union.split()) == sorted([names[first], names[second]])
    parts = told.pop(names[by["kept"][5]])
    assert len(parts) >= 2
    assert set(parts) == {"changed"}
    assert told == {
        names[by["moved"][0]]: ["kept"],
        names[by["moved"][1]]: ["moved"],
        names[by["kept"][0]]: ["removed"],
        names[by["kept"][1]]: ["kept"],
        names[by["kept"][2]]: ["changed"],
        union: ["changed"],
        "": ["added"],
    }


def test_of_a_split_object_whose_parts_are_rejected_the_id_is_removed(desk: Desk, tmp_path: Path):
    key = next(key for key, one in desk.findings.items() if one.said == "kept")
    left, bottom, right, top = desk.before[key].geometry.bounds
    line = shapely.LineString([(left - 1, (bottom + top) / 2), (right + 1, (bottom + top) / 2)])
    done = desk.decide("split", key, geometry=line)
    for part in done.changed:
        if part.verdict != "split":
            desk.decide("reject", part.key)
    desk.export(tmp_path / "out.gpkg", difference=True)
    rows = read_result(tmp_path / "out.gpkg").set_index("old_ids")
    assert rows.loc[desk.before[key].id, "difference"] == "removed"


def test_a_map_of_ones_own_has_a_difference_too(town: tuple[Path, Path], tmp_path: Path):
    with Desk.open(*town, edits=tmp_path / "e.gpkg", device="cpu") as desk:
        desk.decide("reject", 1)
        desk.export(tmp_path / "out.gpkg", difference=True)
        assert desk.findings == {}
    counts = read_result(tmp_path / "out.gpkg")["difference"].value_counts().to_dict()
    assert counts == {"unknown": len(desk.before) - 1, "removed": 1}


def test_what_no_theme_finds_stays_unknown_and_a_strange_class_is_none(
    town: tuple[Path, Path], elsewhere: tuple[Path, gpd.GeoDataFrame], tmp_path: Path
):
    rows = gpd.read_file(elsewhere[0])
    rows["class"] = np.where(np.arange(len(rows)) == 0, "tree", "building")
    rows.to_file(tmp_path / "two.gpkg")
    with Desk.open(town[0], layer=tmp_path / "two.gpkg", device="cpu") as desk:
        assert desk.findings[1].said == "unknown"
        assert desk.edits.get([1])[0].label == "tree"
    rows.assign(**{"class": "residential"}).to_file(tmp_path / "kinds.gpkg")
    with Desk.open(town[0], layer=tmp_path / "kinds.gpkg", device="cpu") as desk:
        assert {one.label for one in desk.edits.all()} == {"building"}


def test_what_cannot_be_used_is_refused(
    town: tuple[Path, Path],
    elsewhere: tuple[Path, gpd.GeoDataFrame],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    with pytest.raises(ReviewError, match="review one of them at a time"):
        Desk.open(*town, layer=elsewhere[0], edits=tmp_path / "e.gpkg")
    rows = gpd.read_file(elsewhere[0])
    rows.iloc[-1:].to_file(tmp_path / "far.gpkg")
    with pytest.raises(ReviewError, match=r"none of the 1 objects .* lies on"):
        Desk.open(town[0], layer=tmp_path / "far.gpkg", device="cpu")
    assert not (tmp_path / "far.review.gpkg").exists()
    assert main(["review", str(town[0]), "--layer", str(elsewhere[0]), "--difference"]) == 2
    assert "--difference came without --export" in capsys.readouterr().err
    rows.iloc[:3].to_file(tmp_path / "plain.gpkg")
    Desk.open(town[0], tmp_path / "plain.gpkg", device="cpu").close()
    with pytest.raises(ReviewError, match="is the review of another check"):
        Desk.open(town[0], layer=tmp_path / "plain.gpkg", device="cpu")


def test_over_http(client: Client, desk: Desk):
    assert client.get("/api/scene")[1]["layer"] is True
    counts = client.get("/api/findings")[1]["counts"]
    assert sum(counts.values()) == len(desk.findings)
    key = next(key for key, one in desk.findings.items() if one.said == "moved")
    status, found = client.get(f"/api/findings/{key}")
    assert (status, found["said"], [one["origin"] for one in found["places"]][1]) == (200, "moved", "given")
    own, place = shapely.geometry.shape(found["places"][1]["geometry"]), desk.findings[key].place
    assert own.area == pytest.approx(desk.before[key].geometry.area)
    assert own.centroid.distance(place.centroid) < 1e-3
    sent = {"kind": "replace", "objects": {str(key): 0}, **found["places"][0]}
    assert client.post("/api/actions", sent)[0] == 200
    (now,) = desk.edits.get([key])
    assert (now.verdict, now.origin) == ("corrected", desk.findings[key].origin)
    assert client.get("/api/findings/999999")[1] == {"said": None, "shift_m": None, "places": []}
    status, content, _ = client.raw("GET", "/api/export?format=geojson&difference=true&decided=true")
    assert status == 200
    assert b'"difference": "moved"' in content


def test_a_shift_is_told_from_a_change_of_shape():
    square, long = shapely.box(0, 0, 10, 10), shapely.box(0, 0, 20, 10)
    alike = likeness(np.array([square, square], object), np.array([shapely.box(4, 3, 14, 13), long], object))
    assert alike.shift_m.tolist() == [5.0, 5.0]
    assert alike.fit.tolist() == [1.0, 0.5]
    assert alike.iou.tolist() == pytest.approx([42 / 158, 0.5])


def test_the_verb_tells_its_steps_and_writes_the_difference(
    town: tuple[Path, Path],
    elsewhere: tuple[Path, gpd.GeoDataFrame],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    given = ["review", str(town[0]), "--layer", str(elsewhere[0]), "--edits", str(tmp_path / "e.gpkg")]
    assert main([*given, "--export", str(tmp_path / "out.xyz"), "--difference"]) == 2
    assert not (tmp_path / "e.gpkg").exists()  # refused before the work
    out = tmp_path / "diff.geojson"
    command = [*given, "--export", str(out), "--difference", "--device", "cpu", "--progress", "json", "--json"]
    assert main(command) == 0
    said = capsys.readouterr()
    assert '"refine"' in said.err
    assert f'"features": {len(read_result(out))}' in said.out
    assert read_provenance(out)["request"]["layer"]["name"] == str(elsewhere[0])


def test_what_reaches_far_beyond_the_scene_is_unknown_and_the_rest_is_as_without_it(
    town: tuple[Path, Path], elsewhere: tuple[Path, gpd.GeoDataFrame], desk: Desk, tmp_path: Path
):
    """As the boundary of a land in an extract: its ground in pixels does not fit the memory."""
    rows = gpd.read_file(elsewhere[0]).to_crs(desk.scene.crs)
    x0, y0, x1, y1 = rows.total_bounds
    land = gpd.GeoDataFrame(
        {"osm_id": ["land"]}, geometry=[shapely.box(x0 - 1e6, y0 - 1e6, x1 + 1e6, y1 + 1e6)], crs=rows.crs
    )
    pd.concat([rows, land], ignore_index=True).to_file(tmp_path / "wide.gpkg")
    land.to_file(tmp_path / "land.gpkg")
    given = {"theme": "buildings", "device": "cpu"}
    with Desk.open(town[0], layer=tmp_path / "wide.gpkg", edits=tmp_path / "wide_edits.gpkg", **given) as opened:
        said = {one.id: opened.findings[key].said for key, one in opened.before.items()}
        added = [one.said for one in opened.findings.values()].count("added")
    assert added == [one.said for one in desk.findings.values()].count("added") > 0  # it hides none
    assert said.pop("land") == "unknown"
    assert said == {one.id: desk.findings[key].said for key, one in desk.before.items()}
    with Desk.open(town[0], layer=tmp_path / "land.gpkg", edits=tmp_path / "land_edits.gpkg", **given) as opened:
        assert [opened.findings[key].said for key in opened.before] == ["unknown"]


@pytest.mark.parametrize(("as_layer", "count"), [(True, 0), (True, 1), (False, 1)])
def test_what_lies_beside_the_scene_is_refused(
    town: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], as_layer: bool, count: int
):
    far = gpd.GeoDataFrame(
        {"id": ["a"]}, geometry=[shapely.box(0, 0, 9, 9)], crs=gpd.read_file(town[1], layer="map").crs
    )
    far.iloc[:count].to_file(tmp_path / "far.gpkg")
    path = str(tmp_path / "far.gpkg")
    given = ["--layer", path] if as_layer else [path]
    out = tmp_path / "out.gpkg"
    assert main(["review", str(town[0]), *given, "--theme", "buildings", "--export", str(out)]) == 2
    said = capsys.readouterr().err
    assert "none of the 1 objects of" in said if count else "far.gpkg holds no object" in said
    assert "Traceback" not in said
    assert sorted(one.name for one in tmp_path.iterdir()) == ["far.gpkg"]


def test_houses_of_a_row_that_is_shifted_are_found_each_in_its_own_place(desk: Desk):
    """5 m on, the first of two houses 9 m apart lies nearer to the second's place than to its own."""
    shown = np.array([shapely.box(x, 0, x + 6, 8) for x in (0, 9)])
    drawn = shapely.transform(shown, lambda xy: np.add(xy, (5, 0)))
    own, other, alike = checking._matched(drawn, shown, desk.scene)
    assert dict(zip(own.tolist(), other.tolist(), strict=True)) == {0: 0, 1: 1}
    assert alike.shift_m == pytest.approx(5, rel=1e-3)
