"""The layers of what the models see: heatmap, prompts, windows."""

from __future__ import annotations

import io
from urllib.parse import urlencode

import numpy as np
import pytest
import shapely
from PIL import Image

from hybridseg.reviewing.desk import Desk
from hybridseg.run.survey import Survey
from tests.reviewing.conftest import Client


def query(desk: Desk, share: float = 0.5, label: str = "building") -> str:
    left, bottom, right, top = desk.scene.geobox.boundingbox.bbox
    sides = {
        "left": left - 30,
        "bottom": top - share * (top - bottom),
        "right": left + share * (right - left),
        "top": top,
    }
    return urlencode({"class": label, **sides})


def test_prompts_and_windows_are_those_of_an_extraction_of_the_view(client: Client, desk: Desk):
    left, bottom, right, top = desk.scene.geobox.boundingbox.bbox
    status, found = client.get(f"/api/seen?{query(desk)}")
    assert status == 200
    kinds = {
        kind: [one["geometry"] for one in found["features"] if one["properties"]["what"] == kind]
        for kind in ("support", "on", "window")
    }
    part = (left, (bottom + top) / 2, (left + right) / 2, top)
    survey = Survey.open(desk.scene, desk.themes[0], desk.themes[0].refiner, "cpu", "torch", ground=part)
    prompts = survey.prompts()
    supports = shapely.union_all([shapely.geometry.shape(one) for one in kinds["support"]])
    assert len(kinds["support"]) == len(kinds["on"]) == len(prompts) > 5
    assert supports.symmetric_difference(prompts.rows.geometry.union_all()).area < 1e-6
    windows = shapely.union_all([shapely.geometry.shape(one) for one in kinds["window"]])
    assert len(kinds["window"]) == len(survey.windows(prompts)[1])
    assert windows.buffer(1e-6).contains(supports)


def test_the_heatmap_lies_on_the_corners_that_are_told(client: Client, desk: Desk):
    _, found = client.get(f"/api/seen?{query(desk)}")
    status, content, headers = client.raw("GET", f"/api/heatmap?{query(desk)}")
    assert (status, headers["content-type"]) == (200, "image/png")
    picture = np.array(Image.open(io.BytesIO(content)))
    (x0, y0), (x1, _), (_, y1), _ = found["corners"]
    height, width, _ = picture.shape

    def opacity(x: float, y: float) -> int:
        return int(picture[int((y - y0) / (y1 - y0) * height), int((x - x0) / (x1 - x0) * width), 3])

    left, bottom, right, top = desk.scene.geobox.boundingbox.bbox
    view = shapely.box(left, (bottom + top) / 2, (left + right) / 2, top)
    inside = [one.geometry.representative_point() for one in desk.before.values() if view.contains(one.geometry)]
    roofs = np.median([opacity(point.x, point.y) for point in inside])
    assert roofs > 4 * np.median(picture[..., 3])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"label": "lake"}, "no theme of this review finds class lake"),
        ({"share": -1.0}, "beside the scene"),
    ],
)
def test_what_cannot_be_seen_is_one_line(client: Client, desk: Desk, change: dict[str, str], said: str):
    for path in ("seen", "heatmap"):
        status, answer = client.get(f"/api/{path}?{query(desk, **change)}")
        assert status == 422
        assert said in answer["error"]


def test_too_much_ground_is_refused_before_it_is_classified(
    client: Client, desk: Desk, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("hybridseg.reviewing.seen.MOST_PX", 200 * 200)
    status, answer = client.get(f"/api/seen?{query(desk)}")
    assert status == 422
    assert "more than 40 m a side" in answer["error"]
    assert "zoom in" in answer["error"]
