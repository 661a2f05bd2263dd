"""The server over HTTP: what it answers, and whom it refuses."""

from __future__ import annotations

import io
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from hybridseg.reviewing.desk import Desk
from hybridseg.reviewing.server.guard import MOST_BYTES
from hybridseg.reviewing.server.serving import Serving
from hybridseg.write.result import read_provenance, read_result
from tests.reviewing.conftest import CREDITS, Client


def outline(one: Any) -> Any:
    return shapely.geometry.mapping(one)


def near(desk: Desk, x: float, y: float, side: float = 30) -> Any:
    left, top = desk.scene.geobox.affine @ (x, y)
    return shapely.box(left, top - side * 0.3, left + side * 0.3, top)


# --- what it answers --------------------------------------------------------------------------------------------------


def test_a_review_from_the_first_object_to_the_export(client: Client, desk: Desk, tmp_path: Path):
    _, about = client.get("/api/scene")
    assert (about["width"], about["height"], about["protocol"], about["who"]) == (448, 448, 1, "Ada")
    _, queue = client.get("/api/queue?count=3")
    first, second, third = (place["object"]["properties"] for place in queue["places"])
    assert first["agreement"] <= second["agreement"] + 0.1
    for one, kind in ((first, "accept"), (second, "reject")):
        status, done = client.post("/api/actions", {"kind": kind, "objects": {one["key"]: one["version"]}})
        assert status == 200, done
    added = near(desk, 50, 50)
    _, done = client.post(
        "/api/actions", {"kind": "add", "class": "building", "geometry": outline(added), "origin": "clicked"}
    )
    assert done["changed"][0]["properties"]["verdict"] == "added"
    _, left = client.get("/api/queue?count=1")
    assert left["places"][0]["object"]["properties"]["key"] == third["key"]
    _, back = client.get("/api/queue?position=1&count=2&back=true")
    assert [place["object"]["properties"]["verdict"] for place in back["places"]] == ["rejected", "accepted"]
    _, progress = client.get("/api/progress")
    assert progress["counts"] == {"accepted": 1, "rejected": 1, "added": 1, "unseen": len(desk.before) - 2}
    for suffix in (".gpkg", ".parquet", ".fgb", ".geojson"):
        status, content, headers = client.raw("GET", f"/api/export?format={suffix[1:]}")
        assert status == 200
        assert headers["content-disposition"] == f'attachment; filename="edits{suffix}"'
        path = tmp_path / f"out{suffix}"
        path.write_bytes(content)
        rows = read_result(path).set_index("id")
        assert len(rows) == len(desk.before)
        assert second["id"] not in rows.index
        assert rows.loc[first["id"], "verdict"] == "accepted"
        assert rows.loc[first["id"], "reviewer"] == "Ada"
        new = rows[rows["verdict"] == "added"]
        assert new["origin"].tolist() == ["clicked"]
        assert new["area_m2"].iloc[0] == pytest.approx(81, rel=1e-3)
        made = read_provenance(path)
        assert made is not None
        assert made["request"]["verdicts"]["accepted"] == 1
        assert "sam2-lite" in made["models"]
        assert made["credits"] == CREDITS  # those of the map
    _, content, _ = client.raw("GET", "/api/export?format=geojson&decided=true")
    assert len(json.loads(content)["features"]) == 2


def test_tiles_are_the_scenes_own_pixels(client: Client, desk: Desk):
    middle = 2**17
    status, content, headers = client.raw("GET", f"/api/tiles/18/{middle}/{middle}")
    assert (status, headers["content-type"]) == (200, "image/jpeg")
    shown = np.moveaxis(np.array(Image.open(io.BytesIO(content)).convert("RGB")), -1, 0).astype(int)
    stored = desk.scene.read_grid(desk.scene.geobox[:256, :256]).pixels.astype(int)
    assert np.abs(shown - stored).mean() < 6
    status, content, headers = client.raw("GET", f"/api/tiles/18/{middle + 1}/{middle + 1}")
    assert headers["content-type"] == "image/png"
    alpha = np.array(Image.open(io.BytesIO(content)))[..., 3]
    assert alpha[:192, :192].all()
    assert not alpha[192:].any()
    assert not alpha[:, 192:].any()
    assert client.raw("GET", "/api/tiles/18/3/3")[0] == 200  # beside the scene: empty


def test_objects_of_a_view_come_with_their_count(client: Client, desk: Desk, monkeypatch: pytest.MonkeyPatch):
    left, bottom, right, top = desk.scene.geobox.boundingbox.bbox
    path = f"/api/objects?left={left}&bottom={bottom}&right={right}&top={top}"
    _, found = client.get(path)
    assert found["count"] == len(found["features"]) == len(desk.before)
    assert found["left_off"] == 0
    shapes = [shapely.geometry.shape(one["geometry"]) for one in found["features"]]
    assert shapely.union_all(shapes).area == pytest.approx(
        shapely.union_all([one.geometry for one in desk.before.values()]).area
    )
    monkeypatch.setattr("hybridseg.reviewing.server.api.MOST_OBJECTS", 5)
    _, few = client.get(path + "&tolerance=0.5")
    assert len(few["features"]) == 5
    assert few["left_off"] == len(desk.before) - 5


def test_a_click_is_answered_corrected_and_shaped(client: Client, desk: Desk):
    truth = max((one.geometry for one in desk.before.values()), key=lambda shape: shape.area)
    middle = truth.representative_point()
    assert client.post("/api/encode", {"x": middle.x, "y": middle.y, "span": 40})[1] == {"ready": True}
    ask = {"points": [{"x": middle.x, "y": middle.y}], "span": 40}
    status, found = client.post("/api/segment", ask)
    assert status == 200
    best = max(found["candidates"], key=lambda one: shapely.geometry.shape(one["geometry"]).intersection(truth).area)
    assert shapely.geometry.shape(best["geometry"]).intersection(truth).area > truth.area / 2
    again = {
        **ask,
        "points": [*ask["points"], {"x": middle.x + 60, "y": middle.y, "on": False}],
        "previous": best["token"],
    }
    assert client.post("/api/segment", again)[1]["candidates"]
    status, shaped = client.post("/api/shape", {"class": "building", "geometry": best["geometry"]})
    assert status == 200
    assert len(shaped["geometry"]["coordinates"][0]) < len(best["geometry"]["coordinates"][0])
    key = next(one.key for one in desk.before.values() if one.geometry is truth)
    corrected = client.post("/api/segment", {**ask, "object": key})[1]["candidates"][0]
    overlap = shapely.geometry.shape(corrected["geometry"]).intersection(truth).area
    assert overlap > 0.6 * truth.area


def test_two_tabs_do_not_overwrite_each_other(client: Client, serving: Serving):
    other = Client(serving)
    _, done = client.post("/api/actions", {"kind": "accept", "objects": {"1": 0}})
    status, said = other.post("/api/actions", {"kind": "reject", "objects": {"1": 0}})
    assert status == 409
    assert "changed elsewhere" in said["error"]
    _, changes = other.get("/api/changes?since=0")
    assert [one["properties"]["verdict"] for one in changes["changed"]] == ["accepted"]
    assert other.post("/api/undo", {"head": 0})[0] == 409
    status, undone = other.post("/api/undo", {"head": done["head"]})
    assert status == 200
    assert undone["changed"][0]["properties"]["verdict"] == "unseen"
    assert client.post("/api/redo", {"head": undone["head"]})[0] == 200


def test_of_many_at_once_one_wins(client: Client, serving: Serving, desk: Desk):
    gate = threading.Barrier(6)

    def ask(_: int) -> int:
        mine = Client(serving)
        gate.wait()
        return mine.post("/api/actions", {"kind": "accept", "objects": {"2": 0}})[0]

    with ThreadPoolExecutor(6) as pool:
        statuses = sorted(pool.map(ask, range(6)))
    assert statuses == [200, 409, 409, 409, 409, 409]
    assert desk.edits.head == 1


def test_no_answer_waits_for_an_acknowledgement(client: Client):
    """Linux acknowledges after 40 ms: the fastest of many answers is far below that."""
    times = []
    for _ in range(30):
        begun = time.perf_counter()
        client.post("/api/undo", {"head": 7})
        times.append(time.perf_counter() - begun)
    assert min(times) < 0.03


# --- whom it refuses --------------------------------------------------------------------------------------------------

JSON = {"Content-Type": "application/json"}
REJECT = json.dumps({"kind": "reject", "objects": {"1": 0}}).encode()


@pytest.mark.parametrize("token", ["", "Bearer ", "Bearer wrong", "Basic abc", "Bearer \xff\xfe", "bearer {token}"])
def test_without_the_token_nothing_is_said(client: Client, token: str):
    given = token.format(token=client.address.token)
    for method, path in (
        ("GET", "/api/scene"),
        ("GET", "/api/openapi.json"),
        ("POST", "/api/actions"),
        ("GET", "/api/none"),
    ):
        status, content, _ = client.raw(method, path, REJECT if method == "POST" else None, {"Authorization": given})
        assert status == 401
        assert client.address.token not in content.decode()


def test_the_token_is_not_taken_from_the_address(client: Client):
    assert client.raw("GET", f"/api/scene?token={client.address.token}", None, {"Authorization": ""})[0] == 401


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:{port}",
        "127.0.0.1",
        "127.0.0.1:1",
        "127.0.0.1.evil.example:{port}",
        "",
        "[::1",
        "127.0.0.1:{port}@evil.example",
    ],
)
def test_another_host_is_refused_though_the_token_is_right(client: Client, desk: Desk, host: str):
    """DNS rebinding: a page of another site whose name was pointed at 127.0.0.1 asks with its own name."""
    named = {"Host": host.format(port=client.port)}
    assert client.raw("POST", "/api/actions", REJECT, {**JSON, **named})[0] in (400, 421)
    assert client.raw("GET", "/", None, named)[0] in (400, 421)
    assert desk.edits.head == 0


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:1"},
        {"Origin": "https://127.0.0.1:{port}"}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"},
    ],
)  # fmt: skip
def test_another_site_is_refused_though_the_token_is_right(client: Client, desk: Desk, headers: dict[str, str]):
    sent = {name: value.format(port=client.port) for name, value in headers.items()}
    assert client.raw("POST", "/api/actions", REJECT, {**JSON, **sent})[0] == 403
    assert desk.edits.head == 0


def test_a_form_of_another_site_changes_nothing(client: Client, desk: Desk):
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        status = client.raw("POST", "/api/actions", REJECT, {"Content-Type": kind, "Authorization": ""})[0]
        assert status == 401
        assert client.raw("POST", "/api/actions", REJECT, {"Content-Type": kind})[0] == 422
    assert desk.edits.head == 0


def test_the_page_itself_is_served_with_its_policy(client: Client):
    for path, kind in (
        ("/", "text/html"),
        ("/app.js", "javascript"),
        ("/vendor/maplibre-gl.mjs", "javascript"),
        ("/page.css", "text/css"),
    ):
        status, _, headers = client.raw("GET", path, None, {"Authorization": ""})
        assert status == 200
        assert kind in headers["content-type"]
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "access-control-allow-origin" not in headers
    page = client.raw("GET", "/")[1].decode()
    assert "http://" not in page
    assert "https://" not in page


def test_serve_has_no_page(desk: Desk):
    server = Serving(desk, page=False)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    asking = Client(server)
    assert asking.get("/api/scene")[0] == 200
    assert asking.raw("GET", "/")[0] == asking.raw("GET", "/app.js")[0] == 404
    asking.connection.close()
    server.stop()
    thread.join(20)


@pytest.mark.parametrize(
    "path",
    [
        "/../../../etc/passwd", "/..%2f..%2f..%2fetc/passwd", "/vendor/%2e%2e/%2e%2e/__init__.py", "//etc/passwd",
        "/static/..\\..\\desk.py", "/%00", "/vendor/../../desk.py", "/api/tiles/18/../../scene.tif",
        "/C:/Windows/win.ini",
        "/api/objects/..%2f1", "/api/export?format=../../x", "/api/export?format=gpkg%00",
    ],
)  # fmt: skip
def test_no_path_leads_out(client: Client, path: str):
    status, content, _ = client.raw("GET", path)
    assert 400 <= status < 500
    assert b"root:" not in content
    assert b"import" not in content


def test_too_much_is_refused_before_it_is_read(client: Client, desk: Desk):
    token = f"Authorization: Bearer {client.address.token}"
    head = f"POST /api/actions HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\n{token}\r\n"
    for length in (str(MOST_BYTES + 1), "99999999999999999999", "-5", "x"):
        with socket.create_connection((client.host, client.port), 10) as wire:
            wire.sendall(f"{head}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n".encode())
            assert wire.recv(100).split()[1] in (b"400", b"413")
    with socket.create_connection((client.host, client.port), 10) as wire:  # in pieces, without a length
        wire.sendall(f"{head}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        piece = b"x" * 65536
        answered = b""
        try:
            for _ in range(MOST_BYTES // 65536 + 2):
                wire.sendall(b"10000\r\n" + piece + b"\r\n")
            answered = wire.recv(100)
        except (ConnectionResetError, BrokenPipeError):
            answered = b"HTTP/1.1 413"
        assert answered.split()[1] == b"413"
    assert desk.edits.head == 0
    assert client.get("/api/scene")[0] == 200


FAR_AWAY = {"type": "Polygon", "coordinates": [[[0, 0], [0, 1], [1, 1], [0, 0]]]}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/segment", {"points": [], "span": 10}),
        ("/api/segment", {"points": [{"x": 0, "y": 0, "on": False}], "span": 10}),
        ("/api/segment", {"points": [{"x": 0, "y": 0}] * 101, "span": 10}),
        ("/api/segment", {"points": [{"x": 0, "y": 0}], "span": -1}),
        ("/api/segment", {"points": [{"x": 0, "y": 0}], "span": 10, "path": "/etc/passwd"}),
        ("/api/actions", {"kind": "accept all"}),
        ("/api/actions", {"kind": "accept", "objects": {}}),
        ("/api/actions", {"kind": "accept", "objects": {"1": 0, "2": 0}}),
        ("/api/actions", {"kind": "add", "class": "nothing", "geometry": {"type": "Point", "coordinates": [0, 0]}}),
        ("/api/actions", {"kind": "add", "class": "building", "geometry": FAR_AWAY}),
        ("/api/actions", {"kind": "relabel", "class": "\ud800", "objects": {"1": 0}}),
        ("/api/undo", {"head": 0}),
        ("/api/undo", {}),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_one_clear_line(client: Client, desk: Desk, path: str, body: Any):
    status, said = client.post(path, body)
    assert status == 422
    assert list(said) == ["error"]
    assert "\n" not in said["error"]
    assert desk.edits.head == 0


def test_what_is_not_there_is_404(client: Client):
    assert client.get("/api/objects/999999")[0] == 404
    assert client.post("/api/actions", {"kind": "accept", "objects": {"999999": 0}})[0] == 404
    assert client.post("/api/segment", {"points": [{"x": 0, "y": 0}], "span": 1, "object": 999999})[0] == 404
    assert client.get("/api/nothing")[0] == 404


POSTS = ("/api/encode", "/api/segment", "/api/shape", "/api/actions", "/api/undo", "/api/redo")
NAMES = (
    "x",
    "y",
    "span",
    "points",
    "box",
    "previous",
    "object",
    "on",
    "preview",
    "class",
    "geometry",
    "type",
    "coordinates",
    "kind",
    "objects",
    "origin",
    "head",
)
WORDS = st.sampled_from(
    [
        "Polygon",
        "LineString",
        "MultiPolygon",
        "building",
        "add",
        "replace",
        "split",
        "merge",
        "1",
        "clicked",
        "\ud800",
        "\0",
    ]
)
NUMBERS = st.one_of(st.integers(), st.floats(), st.sampled_from([10**400, -(10**30), 1e308, 0, 1, 362700.0, 3074100.0]))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, WORDS, st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.lists(st.tuples(NUMBERS, NUMBERS), min_size=4, max_size=5).map(lambda ring: [ring]),
        st.dictionaries(st.sampled_from(NAMES), inner, max_size=6),
    ),
    max_leaves=25,
)  # fmt: skip
BODIES = st.one_of(
    st.binary(max_size=60),
    VALUES.map(lambda value: json.dumps(value).encode()),
    st.sampled_from([b"[" * 100_000, b'{"a":' * 50_000, b"NaN", b"\xff\xfe", b'{"span":Infinity}']),
)


@pytest.mark.parametrize("path", POSTS)
def test_no_body_makes_the_server_fail(client: Client, path: str):
    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(BODIES)
    def ask(body: bytes) -> None:
        status, content, _ = client.raw("POST", path, body, JSON)
        assert status < 500, (status, content, body)
        assert isinstance(json.loads(content), dict)

    ask()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_no_message_of_the_right_shape_makes_the_server_fail(client: Client, desk: Desk, data: st.DataObject):
    left, bottom, right, top = desk.scene.geobox.boundingbox.bbox
    anywhere = st.floats(allow_nan=False, allow_infinity=False)
    x, y = st.one_of(st.floats(left, right), anywhere), st.one_of(st.floats(bottom, top), anywhere)
    at = st.tuples(x, y)
    ring = st.lists(at, min_size=4, max_size=8)
    shapes = st.one_of(
        st.lists(ring, min_size=1, max_size=2).map(lambda rings: {"type": "Polygon", "coordinates": rings}),
        st.lists(at, min_size=2, max_size=4).map(lambda line: {"type": "LineString", "coordinates": line}),
    )
    keys = st.dictionaries(st.sampled_from(["1", "2", "3", "99999"]), st.integers(0, 3), max_size=3)
    kinds = st.sampled_from(["accept", "reject", "relabel", "replace", "add", "delete", "split", "merge"])
    action = st.fixed_dictionaries(
        {"kind": kinds, "objects": keys}, optional={"geometry": shapes, "class": st.just("building")}
    )
    points = st.lists(st.fixed_dictionaries({"x": x, "y": y, "on": st.booleans()}), max_size=8)
    box = st.one_of(st.none(), st.tuples(x, y, x, y))
    span = st.floats(min_value=1e-300, allow_infinity=False)
    asked = st.fixed_dictionaries({"points": points, "box": box, "span": span}, optional={"object": st.integers(1, 5)})
    path, body = data.draw(
        st.one_of(
            st.tuples(st.just("/api/actions"), action),
            st.tuples(st.just("/api/segment"), asked),
            st.tuples(st.just("/api/shape"), st.fixed_dictionaries({"class": st.just("building"), "geometry": shapes})),
            st.tuples(st.just("/api/encode"), st.fixed_dictionaries({"x": x, "y": y, "span": span})),
        )
    )
    status, said = client.post(path, body)
    assert status < 500, (path, body, said)


@pytest.mark.parametrize(
    "query",
    [
        "left=nan&bottom=0&right=1&top=1",
        "left=inf&bottom=0&right=1&top=1",
        "left=1",
        "left=1e308&bottom=-1e308&right=1&top=1&tolerance=-1",
    ],
)
def test_odd_queries_are_refused(client: Client, query: str):
    assert client.get(f"/api/objects?{query}")[0] == 422
    assert client.get("/api/queue?position=-1")[0] == 422
    assert client.get("/api/queue?count=1000000")[0] == 422
    assert client.raw("GET", "/api/tiles/99/1/1")[0] == 422


def test_an_idle_server_ends(desk: Desk):
    server = Serving(desk, page=False)
    thread = threading.Thread(target=server.run, args=(0.5,), daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()


def test_a_server_ends_with_its_parent(desk: Desk):
    parents = iter([7, 7, 1, 1, 1, 1])
    server = Serving(desk, page=False)
    thread = threading.Thread(target=server.run, args=(None, lambda: next(parents, 1)), daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()


def test_a_map_without_objects_can_be_drawn_from_nothing(town: tuple[Path, Path], tmp_path: Path):
    desk = Desk.open(town[0], edits=tmp_path / "new.gpkg", theme="solar", device="cpu")
    assert desk.classes == ("solar",)
    assert desk.queue(0, 1, 5, undecided=True) == []
    assert desk.audit.precision().seen == 0
    desk.export(tmp_path / "empty.gpkg")
    assert len(read_result(tmp_path / "empty.gpkg")) == 0
    desk.close()
