"""The page of a review of a layer from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hybridseg.reviewing.desk import Desk
from hybridseg.write.result import read_result
from tests.reviewing.test_layer import desk, elsewhere  # noqa: F401  fixtures
from tests.reviewing.test_page import page, pytestmark, until  # noqa: F401  fixtures


def test_an_object_is_moved_by_one_key(page: Any, desk: Desk):  # noqa: F811
    key = next(key for key in desk.order.keys if desk.findings[key].said == "moved")
    at = desk.order.keys.index(key)
    page.evaluate(f"review.next({at})")
    until(page, lambda: page.evaluate("review.proposal !== null && review.object.id") == key)
    assert "Enter moves it there" in page.locator("#hint").inner_text()
    page.keyboard.press("Tab")
    until(page, lambda: page.evaluate("review.proposal.origin") == "given")
    page.keyboard.press("Tab")
    until(page, lambda: page.evaluate("review.proposal.origin") != "given")
    page.keyboard.press("Enter")
    until(page, lambda: desk.edits.counts().get("corrected") == 1)
    (now,) = desk.edits.get([key])
    assert now.id == desk.before[key].id
    assert now.geometry.equals_exact(desk.findings[key].place, 1e-6, normalize=True)
    until(page, lambda: page.evaluate("review.object?.id") != key)
    page.check("#difference")
    page.check("#decided")
    with page.expect_download() as download:
        page.click("#export")
    assert download.value.suggested_filename.endswith(".gpkg")
    rows = read_result(Path(download.value.path()).rename(desk.edits.path.parent / "got.gpkg"))
    assert rows["difference"].tolist() == ["moved"]
