from __future__ import annotations

import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
import torch
from affine import Affine
from pyproj import Geod
from rasterio.features import rasterize
from torchmetrics.functional.detection import panoptic_quality

from hybridseg.errors import EvaluateError
from hybridseg.evaluation import evaluate
from hybridseg.evaluation.rasters import read_reference
from hybridseg.evaluation.report import LOWER_IS_BETTER, UNITS, Report
from tests.evaluation.test_rasters import save

UTM = "EPSG:32633"
X, Y = 500_000, 5_000_000


def box(left: float, bottom: float, width: float = 10, height: float = 10) -> shapely.Polygon:
    return shapely.box(X + left, Y + bottom, X + left + width, Y + bottom + height)


def layer(*geometries: shapely.Geometry, crs: str | None = UTM, **columns: list) -> gpd.GeoDataFrame:
    columns = {name.rstrip("_"): values for name, values in columns.items()}
    return gpd.GeoDataFrame(columns, geometry=list(geometries), crs=crs)


def town(seed: int = 0, n: int = 60) -> gpd.GeoDataFrame:
    """Houses on a lattice of 25 m, of two classes, with scores."""
    rng = np.random.default_rng(seed)
    place = np.stack(np.divmod(np.arange(n), 10), axis=-1) * 25.0
    size = rng.uniform(6, 15, (n, 2))
    houses = [
        shapely.affinity.rotate(box(*p, *s), t) for p, s, t in zip(place, size, rng.uniform(0, 90, n), strict=True)
    ]
    return layer(*houses, class_=rng.choice(["house", "shed"], n).tolist(), score=np.ones(n))


def moved(table: gpd.GeoDataFrame, seed: int = 1) -> gpd.GeoDataFrame:
    """Drawn again, a little off; some are gone, some are new."""
    rng = np.random.default_rng(seed)
    shift = [shapely.affinity.translate(p, *rng.normal(0, 0.8, 2)) for p in table.geometry]
    kept = table.set_geometry(gpd.GeoSeries(shift, crs=table.crs)).assign(score=rng.uniform(0, 1, len(table)))
    new = layer(box(-40, 0), box(-40, 40), class_=["shed", "house"], score=[0.3, 0.4])
    return pd.concat([kept.iloc[5:], new], ignore_index=True)


def test_objects_by_hand() -> None:
    # Shifted by 1 (IoU 9/11), by 5 (5/15), missed, invented.
    truth = layer(box(0, 0), box(50, 0), box(100, 0))
    pred = layer(box(1, 0), box(55, 0), box(200, 0), score=[0.9, 0.8, 0.7])
    found = evaluate(pred, truth, tolerance_m=0.5)
    assert (found["precision"], found["recall"], found["f1"]) == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert (found["pq"], found["sq"], found["rq"]) == pytest.approx((9 / 11 / 3, 9 / 11, 1 / 3))
    assert found["ap50"] == pytest.approx(34 / 101)
    assert found["polis_m"] == pytest.approx(0.5)
    assert found["hausdorff_m"] == pytest.approx(1)
    assert found["vertex_ratio"] == 1
    assert found["ece"] == pytest.approx((0.1 + 0.8 + 0.7) / 3)
    # The first: half of its segment's 10 % outside, and the second half: Clinton's mean over both.
    assert found["over_segmentation"] == pytest.approx((0.1 + 0.5) / 2)
    assert found["pixel_iou"] == pytest.approx((90 + 50) / (600 - 140))
    assert found.counts == {
        "predicted": 3, "reference": 3, "hits": 1, "ignored_predicted": 0, "ignored_reference": 0, "split": 0,
        "merged": 0, "blocks": found.counts["blocks"],
    }  # fmt: skip
    table = found.verdicts
    assert table["verdict"].tolist() == ["hit", "false", "false", "hit", "missed", "missed"]
    assert table["match"].tolist() == [0, -1, -1, 0, -1, -1]
    assert table["best_iou"].tolist() == pytest.approx([9 / 11, 1 / 3, 0, 9 / 11, 1 / 3, 0])
    assert found.per_size[0]["reference"] == 3


def test_classes_by_hand() -> None:
    truth = layer(box(0, 0), box(50, 0), box(100, 0), class_=["a", "a", "b"])
    pred = layer(box(0, 0), box(50, 0), box(100, 0), class_=["a", "b", "b"], score=[0.9, 0.8, 0.7])
    found = evaluate(pred, truth)
    assert found["f1"] == pytest.approx(2 / 3)
    a, b = found.per_class["a"], found.per_class["b"]
    assert (a["precision"], a["recall"], b["precision"], b["recall"]) == (1, 0.5, 0.5, 1)
    assert (a["pq"], b["pq"], found["pq"]) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert (a["ap50"], b["ap50"]) == pytest.approx((51 / 101, 0.5))
    assert found["ap50"] == pytest.approx((51 / 101 + 0.5) / 2)
    pixels = found.confusion["pixels"]
    assert found.confusion["classes"] == ("none", "a", "b")
    assert pixels[1, 1] == pixels[1, 2] == pixels[2, 2] > 0
    assert found["pixel_iou"] == pytest.approx((1 / 2 + 1 / 2) / 2)


@pytest.mark.parametrize("scored", [True, False])
def test_a_map_against_itself_is_perfect(scored: bool) -> None:
    table = town() if scored else town().drop(columns="score")
    found = evaluate(table, table)
    expected = {name: 0.0 if name in LOWER_IS_BETTER else 1.0 for name in found.figures}
    assert {name: figure.value for name, figure in found.figures.items()} == pytest.approx(expected, abs=1e-9)
    assert ("ap50" in expected) == ("ece" in expected) == scored
    assert set(found.verdicts["verdict"]) == {"hit"}
    lines = layer(*shapely.boundary(town().geometry.to_numpy()))
    assert [f.value for f in evaluate(lines, lines).figures.values()] == pytest.approx([1] * 6)


def test_panoptic_quality_agrees_with_torchmetrics(tmp_path: Path) -> None:
    affine = Affine(0.5, 0, X - 50, 0, -0.5, Y + 300)
    truth, pred = town(), moved(town())
    masks = [painted(table, affine) for table in (pred, truth)]
    names = {"house": 1, "shed": 2}
    stacked = [
        torch.from_numpy(np.stack([np.r_[0, table["class"].map(names)][mask], mask], axis=-1))[None]
        for table, mask in zip((pred, truth), masks, strict=True)
    ]
    theirs = panoptic_quality(*stacked, things={1, 2}, stuffs={0}, return_per_class=True, return_sq_and_rq=True)
    layers = [polygons(save(tmp_path / "mask.tif", mask.astype(np.uint16), transform=affine), table)
              for table, mask in zip((pred, truth), masks, strict=True)]  # fmt: skip
    ours = evaluate(*layers).per_class
    for name, number in names.items():
        row = theirs[number - 1]
        assert [ours[name][key] for key in ("pq", "sq", "rq")] == pytest.approx(row.tolist(), abs=1e-6)


def painted(table: gpd.GeoDataFrame, affine: Affine) -> np.ndarray:
    shapes = zip(table.geometry, range(1, len(table) + 1), strict=True)
    return rasterize(shapes, (600, 700), transform=affine, dtype="int32").astype(int)


def polygons(path: Path, table: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """The pixels' outlines, so that both libraries see the same objects."""
    return read_reference(path, "instances").table.assign(**{"class": table["class"].to_numpy(), "score": 1.0})


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:3035"])
def test_the_crs_of_the_files_does_not_matter(crs: str) -> None:
    pred, truth = moved(town()), town()
    plain = evaluate(pred, truth, tolerance_m=1)
    found = evaluate(pred.to_crs(crs), truth, tolerance_m=1)
    assert found.crs == plain.crs == UTM
    same_figures(found, plain, 1e-4)
    other = evaluate(pred, truth.to_crs(crs), tolerance_m=1)
    same_figures(other, plain, 3e-3)  # metres of another CRS: UTM's are 0.04 % off, and other pixels are counted
    assert other.notes[0].startswith("measured in ")


def same_figures(one: Report, other: Report, tolerance: float) -> None:
    a, b = ({name: figure.value for name, figure in r.figures.items()} for r in (one, other))
    assert a == pytest.approx(b, abs=tolerance)


def test_areas_are_true_at_the_equator_in_web_mercator() -> None:
    places = np.stack(np.meshgrid(np.arange(3), np.arange(3)), axis=-1).reshape(-1, 2) * 30.0
    houses = [shapely.box(3_627_000 + x, 35_000 + y, 3_627_010 + x, 35_020 + y) for x, y in places]
    found = evaluate(layer(*houses, crs="EPSG:3857"), layer(*houses, crs="EPSG:3857"))
    lon_lat = gpd.GeoSeries(houses, crs="EPSG:3857").to_crs("EPSG:4326")
    true = [abs(Geod(ellps="WGS84").geometry_area_perimeter(house)[0]) for house in lon_lat]
    assert found.verdicts["area_m2"].to_numpy() == pytest.approx(np.tile(true, 2), rel=1e-4)
    assert "EPSG:3857 is not in true metres here" in found.notes[0]


def test_the_order_of_rows_does_not_matter() -> None:
    pred, truth = moved(town()), town()
    houses = truth.geometry
    pred = pd.concat([pred, layer(*houses[:9], class_=["shed"] * 9), layer(*houses[:9], class_=["house"] * 9)])
    pred = pred.fillna({"score": 0.5})
    found = evaluate(pred.sample(frac=1, random_state=0), truth.sample(frac=1, random_state=1))
    same_figures(found, evaluate(pred, truth), 1e-9)


def test_intervals_hold_the_value_and_the_seed_decides() -> None:
    pred, truth = moved(town(n=100)), town(n=100)
    found = evaluate(pred, truth)
    for name, figure in found.figures.items():
        assert figure.low <= figure.value <= figure.high, name
    assert found.figures["f1"].low < found.figures["f1"].high
    assert evaluate(pred, truth).figures == found.figures
    assert evaluate(pred, truth, seed=5).figures["f1"] != found.figures["f1"]


def test_intervals_are_told_of_only_where_there_are_any() -> None:
    lines = layer(*shapely.boundary(town().geometry.to_numpy()))
    one, many = (evaluate(table, table) for table in (lines.iloc[:1], lines))
    assert one.counts["blocks"] == 1
    assert {figure.low for figure in one.figures.values()} == {None}
    assert "there are no intervals" in " ".join(one.warnings)
    assert "interval" not in " ".join(one.notes)
    assert many.counts["blocks"] > 1
    assert "intervals from blocks" in " ".join(many.notes)


def test_only_the_aoi_counts() -> None:
    truth = layer(box(0, 0), box(50, 0), box(100, 0))
    pred = layer(box(0, 0), box(200, 0))
    aoi = layer(box(-5, -5, 65, 20)).to_crs("EPSG:4326")
    found = evaluate(pred, truth, aoi=aoi)
    assert (found["precision"], found["recall"]) == (1, 0.5)
    # The AOI cuts the second house: half of it counts, as an object and in pixels, but its cut is nobody's outline.
    halved = evaluate(layer(box(0, 0), box(50, 0, 30)), truth, aoi=layer(box(-5, -5, 60, 20)), tolerance_m=0.5)
    assert (halved["f1"], halved["pixel_iou"], halved["boundary_f1"]) == pytest.approx((1, 1, 1))
    assert halved["hausdorff_m"] == 0


def test_what_is_far_away_spoils_nothing() -> None:
    near = layer(box(0, 0)).to_crs("EPSG:4326")
    far = gpd.GeoDataFrame(geometry=[shapely.box(-165.1, -45.2, -165, -45.1)], crs="EPSG:4326")
    both = pd.concat([near, far], ignore_index=True)
    found = evaluate(both, layer(box(0, 0)))
    assert (found["precision"], found["pixel_iou"]) == (0.5, 1)
    assert any("1 of them are too far away for their pixels to be counted" in line for line in found.warnings)
    assert "pixels of 0.5 m" in found.notes
    # With an AOI the CRS is chosen for what lies in it, however much more the layers hold.
    there = evaluate(both, both, aoi=layer(box(-5, -5, 30, 30)))
    assert "longitude 15, latitude 45" in there.notes[0]
    assert there.counts["reference"] == 1


def test_ignore_regions_count_for_nothing() -> None:
    truth = layer(box(0, 0), box(50, 0), box(100, 0))
    pred = layer(box(0, 0), box(104, 0), box(52, 30), score=[0.9, 0.8, 0.7])
    plain = evaluate(pred, truth)
    assert (plain["precision"], plain["recall"]) == pytest.approx((1 / 3, 1 / 3))
    # Gone: the second reference object, the false one, and with them their pixels. The third pair is cut to where it
    # is not ignored (100 to 104 and 104 to 104), which leaves nothing of the prediction but 4 m of the reference.
    ignored = layer(box(45, -5, 20, 60), box(104, -5, 30, 20))
    found = evaluate(pred, truth, ignore=ignored)
    assert (found["precision"], found["recall"], found["ap50"]) == (1, 1, 1)
    assert found["pixel_iou"] == pytest.approx(100 / 140, abs=0.02)
    assert (found.counts["ignored_predicted"], found.counts["ignored_reference"]) == (2, 2)
    assert sorted(found.verdicts["verdict"]) == ["hit", "hit", "ignored"]


def test_a_raster_of_classes_as_reference(tmp_path: Path) -> None:
    values = np.zeros((40, 40), np.uint8)
    values[5:15, 5:15] = values[5:15, 25:35] = 1
    values[25:35, 5:25] = 2
    values[:, 38:] = 255
    path = save(tmp_path / "ref.tif", values, transform=Affine(1, 0, X, 0, -1, Y + 40), nodata=255)
    pred = layer(box(5, 25), box(25, 25, 5), box(5, 5, 20), class_=["house", "house", "lake"])
    found = evaluate(pred, path, rename={"1": "house", "2": "lake"})
    assert found.per_class["house"]["pixel_iou"] == pytest.approx(150 / 200)
    assert found.per_class["lake"]["pixel_iou"] == 1
    assert found.confusion["pixels"].sum() == 40 * 38
    assert (found["f1"], found.counts["reference"]) == (1, 3)
    assert any(note.startswith("ref.tif: values taken for classes") for note in found.notes)
    with pytest.raises(
        EvaluateError, match=r"the prediction has house, lake; ref.tif has 1, 2; .*'{\"1\": \"house\"}'"
    ):
        evaluate(pred, path)


def test_objects_that_touch_are_one_where_the_reference_cannot_part_them(tmp_path: Path) -> None:
    values = np.zeros((40, 40), np.uint8)
    values[5:15, 2:32] = 1  # a row of three houses
    path = save(tmp_path / "ref.tif", values, transform=Affine(1, 0, X, 0, -1, Y + 40))
    houses = [box(2, 25), box(12, 25), box(22, 25), box(2, 0), box(22, 15, 10, 10)]
    pred = layer(*houses, class_=["1"] * 4 + ["pond"], score=[0.5, 0.9, 0.7, 0.4, 0.8])
    apart, joined = evaluate(pred, path), evaluate(pred, path, touching="joined")
    assert (apart["f1"], apart.counts["predicted"]) == (0, 5)
    assert any("--touching joined" in note for note in apart.notes)
    assert (joined.per_class["1"]["precision"], joined.per_class["1"]["recall"]) == (0.5, 1)
    assert (joined.counts["predicted"], joined.counts["reference"]) == (3, 1)
    assert "objects that touch count as one" in joined.notes
    row = joined.verdicts.set_index("verdict").loc["hit"]
    assert row["score"].max() == 0.9, "the highest of the three"
    with pytest.raises(EvaluateError, match="touching is 'near'; choose one of apart, joined"):
        evaluate(pred, path, touching="near")  # type: ignore[arg-type]
    road = layer(shapely.LineString([(X, Y), (X + 50, Y)]))
    with pytest.raises(EvaluateError, match="--touching joined came with lines"):
        evaluate(road, road, touching="joined")


def test_a_raster_of_instances_as_reference(tmp_path: Path) -> None:
    values = np.zeros((40, 40), np.uint16)
    for number, left in enumerate((2, 12, 22), start=1):
        values[5:15, left : left + 10] = number
    path = save(tmp_path / "ref.tif", values, transform=Affine(1, 0, X, 0, -1, Y + 40))
    pred = layer(box(2, 25), box(12, 25), box(22, 25), class_=["house"] * 3)
    found = evaluate(pred.to_crs("EPSG:4326"), path)
    assert (found["f1"], found["pq"], found["pixel_iou"]) == pytest.approx((1, 1, 1))


def test_the_scene_gives_pixels_tolerance_and_extent(tmp_path: Path) -> None:
    scene = save(tmp_path / "scene.tif", np.ones((100, 100), np.uint8), transform=Affine(0.25, 0, X, 0, -0.25, Y + 25))
    found = evaluate(layer(box(2, 2), box(300, 0)), layer(box(2, 2), box(500, 0)), scene=scene)
    assert found["f1"] == 1
    assert found.confusion["pixels"].tolist() == [[100 * 100 - 1600, 0], [0, 1600]]
    assert found.settings["tolerance_m"] == pytest.approx(0.5, rel=1e-3)


def test_roads_by_hand() -> None:
    street = shapely.LineString([(X, Y), (X + 100, Y)])
    half = shapely.LineString([(X, Y + 1), (X + 50, Y + 1)])
    found = evaluate(layer(half), layer(street), tolerance_m=2)
    assert (found["buffer_precision"], found["buffer_recall"]) == pytest.approx((1, (50 + np.sqrt(3)) / 100), abs=0.01)
    assert (found["apls_reference"], found["apls_prediction"], found["apls"]) == pytest.approx((1 / 3, 1, 0.5))
    assert found.confusion is None
    assert set(found.verdicts["verdict"]) == {"hit", "missed"}
    assert found.verdicts.loc[found.verdicts["verdict"] == "missed", "length_m"].sum() == pytest.approx(48, abs=2)


def test_it_is_all_plain_json() -> None:
    pred, truth = moved(town()), town()
    lines = layer(*shapely.boundary(truth.geometry.to_numpy()))
    for found in (evaluate(pred, truth), evaluate(pred.iloc[:0], truth), evaluate(lines, lines)):
        content = json.loads(json.dumps(found.to_dict(), allow_nan=False))
        assert set(content["figures"]) <= set(UNITS)
        assert "verdicts" not in content
        assert all({"value", "low", "high", "unit"} == set(figure) for figure in content["figures"].values())


def test_an_empty_map_finds_nothing() -> None:
    found = evaluate(layer(), layer(box(0, 0)))
    assert (found["precision"], found["recall"], found["f1"], found["pq"], found["pixel_iou"]) == (0, 0, 0, 0, 0)
    assert np.isnan(found["polis_m"])
    assert "the prediction has no object on the ground to compare: everything is missed" in found.warnings
