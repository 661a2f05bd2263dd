from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from pyogrio.errors import FeatureError

from hybridseg.errors import OutputError, SourceError
from hybridseg.evaluation import evaluate
from hybridseg.evaluation.page import MOST_OBJECTS, outline_layers, page, worst_objects
from tests.evaluation.test_evaluate import UTM, X, Y, box, layer, moved, town


class _Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (3, 160, 260), dtype=np.uint8)
    profile = {"driver": "GTiff", "count": 3, "height": 160, "width": 260, "dtype": "uint8", "crs": UTM}
    path = tmp_path / "scene.tif"
    with rasterio.open(path, "w", **profile, transform=Affine(1, 0, X - 5, 0, -1, Y + 155)) as file:
        file.write(pixels)
    return path


def test_the_page_needs_no_network_and_holds_every_figure(scene: Path) -> None:
    truth = town()
    report = evaluate(moved(truth), truth, scene=scene)
    text = page(report, scene)
    tags = _Tags(text).found
    assert not [a for tag, a in tags if tag in ("script", "link", "iframe")]
    sources = [value for _, a in tags for key, value in a.items() if key in ("src", "href", "xlink:href")]
    assert all(value.startswith(("data:", "#")) for value in sources)
    assert len([a for tag, a in tags if tag == "img"]) == 1 + 12
    for name, figure in report.figures.items():
        assert f"<td>{name}</td><td><b>{figure.value:.3f}</b></td>" in text
    assert text.count("<svg") == 3 + len(re.findall('aria-label="interval"', text))
    assert page(report, scene) == text


def test_the_page_says_what_a_map_gains_over_another(tmp_path: Path) -> None:
    truth = town()
    paths = [tmp_path / f"{name}.gpkg" for name in ("good", "poor", "truth")]
    for path, table in zip(paths, (moved(truth), moved(truth).iloc[20:], truth), strict=True):
        table.to_file(path)
    good, poor, ref = map(str, paths)
    report = evaluate(good, ref, compare=poor, html=tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert report.rival is not None
    assert report.rival.verdict("recall") == "better"
    gain = report.rival.differences["recall"]
    assert gain.value == pytest.approx(report["recall"] - evaluate(poor, ref)["recall"])
    assert f"{gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})" in text
    assert "against" in dict(report.rows())[""]
    assert report.to_dict()["rival"]["verdicts"]["recall"] == "better"
    swapped = evaluate(poor, ref, compare=good)
    assert swapped.rival is not None
    assert swapped.rival.verdict("recall") == "worse"
    assert swapped.rival.differences["recall"].value == pytest.approx(-gain.value)
    itself = evaluate(good, ref, compare=good)
    assert itself.rival is not None
    assert {itself.rival.verdict(name) for name in itself.rival.differences} == {"even", ""}


def test_the_report_is_refused_before_the_work_where_it_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"\.html"):
        evaluate("no.gpkg", "no.gpkg", html=tmp_path / "r.pdf")


def saved(tmp_path: Path) -> str:
    path = tmp_path / "houses.gpkg"
    town().to_file(path)
    return str(path)


def test_both_outputs_or_none(tmp_path: Path, scene: Path) -> None:
    houses, outputs = saved(tmp_path), {"layer": tmp_path / "r.gpkg", "html": tmp_path / "r.html"}
    whole = scene.read_bytes()
    scene.write_bytes(whole[: len(whole) // 4])
    with pytest.raises(SourceError, match=r"scene.tif cannot be read to its end"):
        evaluate(houses, houses, scene=str(scene), **outputs)
    assert {path.name for path in tmp_path.iterdir()} == {"houses.gpkg", "scene.tif"}
    scene.write_bytes(whole)
    evaluate(houses, houses, scene=str(scene), **outputs)
    assert all(path.exists() for path in outputs.values())


@pytest.mark.parametrize("name", ["pred", "ref", "aoi", "ignore", "compare"])
def test_inputs_are_not_written_over(tmp_path: Path, name: str) -> None:
    houses = saved(tmp_path)
    with pytest.raises(OutputError, match="is one of the inputs"):
        evaluate(**{"pred": "none.gpkg", "ref": "none.gpkg", name: houses}, layer=Path(houses))


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise FeatureError("no such page: INSERT INTO a")

    houses = saved(tmp_path)
    monkeypatch.setattr("pyogrio.write_dataframe", full)
    with pytest.raises(OutputError, match=r"r.gpkg cannot be written \(no such page\)"):
        evaluate(houses, houses, layer=tmp_path / "r.gpkg")


def test_class_names_of_any_script(tmp_path: Path) -> None:
    table = town().assign(**{"class": "建物"})
    assert "建物" in page(evaluate(table, table))  # warnings are errors here


def test_the_worst_have_the_most_wrong_ground() -> None:
    truth = layer(box(0, 0), box(50, 0, 20, 20), box(100, 0))
    pred = layer(box(0, 0), box(100, 1), box(200, 0, 30, 30), score=[0.9, 0.8, 0.7])
    found = worst_objects(evaluate(pred, truth).verdicts)
    assert [(w.verdict, w.caption) for w in found] == [
        ("false", "900 m², score 0.70"),
        ("missed", "400 m², best IoU 0.00"),
        ("hit", "100 m², best IoU 0.82"),
    ]
    assert found[1].around.geometry.iloc[0].equals(box(40, -10, 40, 40))
    many = layer(*(box(20 * k, 0) for k in range(20)))
    assert len(worst_objects(evaluate(pred, many).verdicts)) == MOST_OBJECTS < 20
    assert [entry.label for entry in outline_layers(evaluate(pred, truth).verdicts)] == [
        "reference",
        "missed",
        "hit",
        "false",
    ]


def test_the_worst_of_lines_are_the_longest() -> None:
    roads = layer(*(shapely.LineString([(X, Y + k), (X + 10 * k, Y + k)]) for k in (10, 30, 50)))
    report = evaluate(roads.iloc[:1], roads, tolerance_m=1)
    assert [(w.verdict, w.caption) for w in worst_objects(report.verdicts)] == [
        ("missed", "500 m"),
        ("missed", "300 m"),
    ]
    assert "apls" in page(report)
