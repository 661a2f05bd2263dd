"""The page as a person uses it, in Debian's chromium: `apt-get install chromium`, `pip install playwright`."""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest

from hybridseg.reviewing.desk import Desk
from hybridseg.reviewing.lesson import LEAST
from hybridseg.reviewing.server.serving import Serving
from hybridseg.write.result import read_result
from tests.reviewing.conftest import Client

playwright = pytest.importorskip(
    "playwright.sync_api", reason="the driver of browsers is not there: pip install playwright"
)
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="there is no chromium: apt-get install chromium"),
    pytest.mark.timeout(600),
]
SOFTWARE = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
PATIENCE_S = 120


@pytest.fixture
def desk(town: tuple[Path, Path], tmp_path: Path) -> Iterator[Desk]:
    """A review of two classes; the map lacks each fourth object."""
    rows = gpd.read_file(town[1], layer="map")
    rows[np.arange(len(rows)) % 4 > 0].to_file(tmp_path / "lacking.gpkg")
    given = {"theme": "buildings,solar", "edits": tmp_path / "edits.gpkg", "who": "Ada", "device": "cpu"}
    with Desk.open(town[0], tmp_path / "lacking.gpkg", **given) as opened:
        yield opened


@pytest.fixture
def page(client: Client) -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=SOFTWARE)
        opened = browser.new_page(viewport={"width": 1280, "height": 800})
        opened.set_default_timeout(PATIENCE_S * 1000)
        faults: list[str] = []
        opened.on("pageerror", lambda error: faults.append(str(error)))
        # what the server refuses is shown on the page; the browser writes of it, too
        refused = re.compile("the server responded with a status of 4(09|22)")
        noted = lambda said: said.type == "error" and not refused.search(said.text) and faults.append(said.text)  # noqa: E731
        opened.on("console", noted)
        opened.goto(client.address.link)
        opened.wait_for_selector("body[data-ready=yes]")
        yield opened
        browser.close()
    assert not faults


def until(page: Any, true: Callable[[], bool]) -> None:
    """Wait in small steps: the page's policy forbids the driver's own way, which is to evaluate text."""
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end, page.locator("#hint").inner_text()
        page.wait_for_timeout(50)


def on_screen(page: Any, desk: Desk, x: float, y: float) -> tuple[float, float]:
    """Where a place of the scene's CRS is shown."""
    at = page.evaluate(
        "([x, y]) => { const p = review.scene.map.project(review.place.fromCrs([x, y])); return [p.x, p.y] }", [x, y]
    )
    return at[0], at[1]


def test_open_click_accept_undo_reload_export(page: Any, client: Client, serving: Serving, desk: Desk, tmp_path: Path):
    assert page.url == f"{client.address.url}/"  # the token is not in the address any more
    assert client.address.token not in page.content()
    counts = desk.edits.counts
    first = page.evaluate("review.object.id")

    page.keyboard.press("a")  # accept: the next of the queue comes by itself
    until(page, lambda: counts().get("accepted") == 1 and page.evaluate("review.object?.id") not in (None, first))
    second = page.evaluate("review.object.id")

    page.keyboard.press("d")  # reject, and undo that
    until(page, lambda: counts().get("rejected") == 1)
    page.keyboard.press("z")
    until(page, lambda: "rejected" not in counts())
    until(page, lambda: page.evaluate("review.object?.id") == second)

    page.keyboard.press("n")  # add by clicking in the middle of a building
    page.wait_for_selector("button[data-does=fresh][aria-pressed=true]")
    largest = max((one.geometry for one in desk.before.values()), key=lambda shape: shape.area)
    truth = largest.representative_point()  # the first of the queue may be a strip at the scene's edge
    page.evaluate("([x, y]) => review.scene.map.jumpTo({ center: review.place.fromCrs([x, y]) })", [truth.x, truth.y])
    page.mouse.click(*on_screen(page, desk, truth.x, truth.y))
    until(page, lambda: page.evaluate("review.clicks.candidates.length > 0"))
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    until(page, lambda: counts().get("added") == 1)
    page.keyboard.press("Escape")
    added = next(one for one in desk.edits.all() if one.verdict == "added")
    assert added.origin == "clicked"
    assert added.geometry.contains(truth)

    page.reload()  # and all is there
    page.wait_for_selector("body[data-ready=yes]")
    assert page.evaluate("review.progress.counts") == counts()
    assert counts() == {"accepted": 1, "added": 1, "unseen": len(desk.before) - 1}
    assert page.evaluate("review.object.id") == second

    page.keyboard.press("c")  # correct by a box, dragged with Shift
    page.wait_for_selector("button[data-does=click][aria-pressed=true]")
    left, bottom, right, top = desk.before[second].geometry.bounds
    page.keyboard.down("Shift")
    page.mouse.move(*on_screen(page, desk, left, top))
    page.mouse.down()
    page.mouse.move(*on_screen(page, desk, right, bottom), steps=4)
    page.mouse.up()
    page.keyboard.up("Shift")
    until(page, lambda: page.evaluate("review.clicks.candidates.length > 0"))
    page.keyboard.press("Enter")
    until(page, lambda: counts().get("corrected") == 1)

    page.select_option("#format", "geojson")
    with page.expect_download() as download:
        page.click("#export")
    path = tmp_path / "out.geojson"
    download.value.save_as(path)
    verdicts = read_result(path)["verdict"].value_counts().to_dict()
    assert verdicts == {"accepted": 1, "added": 1, "corrected": 1, "unseen": len(desk.before) - 2}


def test_relabel_split_improve_and_agree(page: Any, desk: Desk):
    counts = desk.edits.counts
    first = page.evaluate("review.object.id")
    page.keyboard.press("2")  # the second class
    until(page, lambda: desk.edits.get([first])[0].label == desk.classes[1])
    page.keyboard.press("z")
    until(page, lambda: desk.edits.get([first])[0].label == "building")

    page.wait_for_timeout(200)
    page.keyboard.press("x")  # split from left to right
    left, bottom, right, top = desk.before[first].geometry.bounds
    ends = [on_screen(page, desk, x, (bottom + top) / 2) for x in (left - 3, right + 3)]
    until(page, lambda: page.evaluate("review.drawing.active"))
    page.mouse.click(*ends[0])
    page.mouse.move(*ends[1], steps=5)
    page.mouse.click(*ends[1])
    page.keyboard.press("Enter")
    until(page, lambda: counts().get("split") == 1)
    assert counts()["corrected"] == 2
    until(page, lambda: page.evaluate("review.object.properties.parents.length") == 1)  # one of the parts is chosen
    page.keyboard.press("z")
    until(page, lambda: "split" not in counts())

    page.click("button[data-teach=improve]")  # too few decisions: told, and nothing begins
    until(page, lambda: "too few to learn from" in page.locator("#message").inner_text())
    for key in desk.order.keys[:LEAST]:
        desk.decide("accept", key)
    page.click("button[data-teach=improve]")
    until(page, lambda: "Learning from the decisions" in page.locator("#learning").inner_text() or agreeable(page))
    until(page, lambda: agreeable(page))
    before = counts()
    shown = page.evaluate("review.scene.map.getSource('sketch').serialize().data.features.length")
    assert counts() == before  # it only shows
    page.reload()  # what was found is there still
    page.wait_for_selector("body[data-ready=yes]")
    until(page, lambda: agreeable(page))
    assert page.evaluate("review.scene.map.getSource('sketch').serialize().data.features.length") == shown > 0
    page.click("button[data-teach=agree]")
    until(page, lambda: page.locator("button[data-teach=improve]").count() == 1)
    assert counts() != before
    assert counts()["accepted"] == LEAST
    page.keyboard.press("z")
    until(page, lambda: counts() == before)


def agreeable(page: Any) -> bool:
    return page.locator("button[data-teach=agree]").count() == 1


def test_what_another_tab_does_is_shown_and_not_overwritten(page: Any, client: Client, desk: Desk):
    key = page.evaluate("review.object.id")
    assert client.post("/api/actions", {"kind": "reject", "objects": {str(key): 0}})[0] == 200
    page.evaluate("review.decide('accept').catch((error) => review.say(error))")
    until(page, lambda: "changed elsewhere" in page.locator("#message").inner_text())
    until(page, lambda: page.evaluate("review.object.properties.verdict") == "rejected")
    assert desk.edits.counts()["rejected"] == 1


def test_a_key_can_be_given_to_another_action(page: Any, desk: Desk):
    page.keyboard.press("?")
    page.locator("#bindings div", has_text="Accept").locator("button").click()
    page.keyboard.press("k")
    page.locator("dialog button", has_text="Close").click()
    page.keyboard.press("k")
    until(page, lambda: desk.edits.counts().get("accepted") == 1)
    page.keyboard.press("a")
    page.wait_for_timeout(300)
    assert desk.edits.counts()["accepted"] == 1


def test_the_queue_walks_what_a_filter_leaves_by_keyboard_alone(page: Any, desk: Desk):
    keys = [key for key in desk.line if desk.before[key].score >= 0.7]
    page.keyboard.press("q")
    until(page, lambda: page.evaluate("document.activeElement.name") == "class")
    for _ in range(3):
        page.keyboard.press("Tab")
    page.keyboard.type("0.7")
    page.keyboard.press("Tab")  # what was typed counts as soon as it is left
    until(page, lambda: f"Queue: {len(keys)} of {len(desk.before)}" in page.locator("#filter summary").inner_text())
    until(page, lambda: page.evaluate("review.object?.id") == keys[0])
    page.keyboard.press("Escape")
    for key in keys[1:3]:
        page.keyboard.press("a")
        until(page, lambda key=key: page.evaluate("review.object?.id") == key)
    page.keyboard.press("b")
    until(page, lambda: page.evaluate("review.object?.id") == keys[1])
    assert desk.edits.counts()["accepted"] == 2


def test_a_square_is_looked_over_and_undone(page: Any, desk: Desk):
    drawn = desk.audit.next()
    page.keyboard.press("g")
    until(page, lambda: page.evaluate("review.square?.square") == drawn)
    assert "drawn at random" in page.locator("#hint").inner_text()
    page.keyboard.press("g")
    until(page, lambda: desk.edits.looked == {drawn})
    until(page, lambda: page.evaluate("review.square?.square") == desk.audit.next())
    page.keyboard.press("Escape")
    until(page, lambda: page.evaluate("review.square") is None)
    page.keyboard.press("z")
    until(page, lambda: not desk.edits.looked)


def test_the_heatmap_answers_until_the_refiner_does(page: Any, desk: Desk, monkeypatch: pytest.MonkeyPatch):
    counts, encode, free = desk.edits.counts, desk.segmenter.encode, threading.Event()
    large = max(desk.before.values(), key=lambda one: one.geometry.area)
    middle = large.geometry.representative_point()
    assert desk.drafts.at(*(~desk.scene.geobox.affine @ (middle.x, middle.y)), "building") is not None

    def slow(window: Any) -> Any:
        assert free.wait(PATIENCE_S)
        return encode(window)

    monkeypatch.setattr(desk.segmenter, "encode", slow)
    page.keyboard.press("n")
    page.wait_for_selector("button[data-does=fresh][aria-pressed=true]")
    page.evaluate("([x, y]) => review.scene.map.jumpTo({ center: review.place.fromCrs([x, y]) })", [middle.x, middle.y])
    page.mouse.click(*on_screen(page, desk, middle.x, middle.y))
    until(page, lambda: page.evaluate("review.clicks.drafted"))
    assert "As the classifier sees it" in page.locator("#hint").inner_text()
    assert page.locator("#dot").get_attribute("data-state") == "busy"
    page.keyboard.press("Enter")  # what was not seen is not kept
    free.set()
    until(page, lambda: "Enter keeps it" in page.locator("#message").inner_text())
    assert "added" not in counts()
    assert not page.evaluate("review.clicks.drafted")
    page.keyboard.press("Enter")
    until(page, lambda: counts().get("added") == 1)


def test_what_a_merge_makes_is_chosen(page: Any, desk: Desk):
    first = desk.before[page.evaluate("review.object.id")]
    near = min(
        (one for one in desk.before.values() if one is not first), key=lambda one: one.geometry.distance(first.geometry)
    )
    at = near.geometry.representative_point()
    page.keyboard.down("Shift")
    page.mouse.click(*on_screen(page, desk, at.x, at.y))
    page.keyboard.up("Shift")
    until(page, lambda: page.evaluate("review.others.length") == 1)
    page.keyboard.press("m")
    until(page, lambda: page.evaluate("review.object?.properties.parents.length") == 2)
    assert page.evaluate("review.object.properties.open")
    assert page.locator("button[data-does=accept]").is_enabled()
    page.keyboard.press("z")
    until(page, lambda: "merged" not in desk.edits.counts())
    until(page, lambda: page.evaluate("review.object?.properties.parents.length") == 0)
    assert "Ada" not in page.locator("#card").inner_text()  # undone: nobody has decided


def test_the_bar_names_the_keys_that_a_person_chose(page: Any):
    assert "A accepts" in page.locator("#hint").inner_text()
    page.keyboard.press("?")
    page.locator("#bindings div", has_text="Accept").locator("button").click()
    page.keyboard.press("k")
    page.locator("dialog button", has_text="Close").click()
    page.keyboard.press("f")
    until(page, lambda: "K accepts" in page.locator("#hint").inner_text())


def test_heatmap_prompts_and_windows_are_layers_that_a_key_shows_and_hides(page: Any):
    def shown(layer: str) -> bool:
        there = f"review.scene.map.getLayer('{layer}')"
        return bool(page.evaluate(f"{there} && {there}.visibility !== 'none'"))

    assert not shown("heat")
    assert not shown("prompts")
    page.keyboard.press("t")
    until(page, lambda: shown("heat"))
    assert not shown("prompts")
    page.keyboard.press("v")
    page.keyboard.press("w")
    until(page, lambda: shown("prompts") and shown("supports") and shown("windows"))
    kinds = page.evaluate(
        "[...new Set(review.scene.map.getSource('seen').serialize().data.features.map((one) => one.properties.what))]"
    )
    assert {"support", "on", "window"} <= set(kinds)
    for key in "tvwh":
        page.keyboard.press(key)
    until(page, lambda: not any(shown(layer) for layer in ("heat", "prompts", "windows", "objects-line")))
