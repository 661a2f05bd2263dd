"""A small review: a town that is rendered, whose map is the truth, and the embedded refiner."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import geopandas as gpd
import numpy as np
import pytest

from hybridseg.reviewing.desk import Desk
from hybridseg.reviewing.server.serving import Serving
from hybridseg.write.result import write_result
from townscape import render_town


class Client:
    """Asks a server, as a plug-in would: one connection, kept alive."""

    made: ClassVar[list[http.client.HTTPConnection]] = []

    def __init__(self, serving: Serving) -> None:
        self.address = serving.address
        self.host, port = self.address.url.removeprefix("http://").rsplit(":", 1)
        self.port = int(port)
        self.connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        self.made.append(self.connection)

    def raw(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes, dict[str, str]]:
        given = {"Authorization": f"Bearer {self.address.token}", **(headers or {})}
        try:
            self.connection.request(method, path, body, given)
        except (BrokenPipeError, ConnectionResetError):  # the server closed it after it had refused something
            self.connection.close()
            self.connection.request(method, path, body, given)
        try:
            reply = self.connection.getresponse()
        except http.client.RemoteDisconnected:
            self.connection.close()
            self.connection.request(method, path, body, given)
            reply = self.connection.getresponse()
        return reply.status, reply.read(), {k.lower(): v for k, v in reply.getheaders()}

    def get(self, path: str) -> tuple[int, Any]:
        status, content, _ = self.raw("GET", path)
        return status, json.loads(content)

    def post(self, path: str, body: Any) -> tuple[int, Any]:
        content = json.dumps(body).encode()
        status, answer, _ = self.raw("POST", path, content, {"Content-Type": "application/json"})
        return status, json.loads(answer)


CREDITS = [{"of": "imagery", "attribution": "Town of Demo", "licence": "CC-BY-4.0"}]
"""Of the map that is reviewed."""


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Scene and map: 448 px at 0.3 m; what is known of the map's objects differs from one to the other."""
    folder = tmp_path_factory.mktemp("town")
    scene, truth_path = render_town(448, 0.3, 7).write(folder)
    truth = gpd.read_file(truth_path)
    rng, count = np.random.default_rng(0), len(truth)
    figures = {name: rng.uniform(0.3, 1, count).round(3) for name in ("score", "iou_pred", "stability", "agreement")}
    features = gpd.GeoDataFrame(
        {
            "id": [f"building-{k}" for k in range(count)],
            "class": "building",
            **figures,
            "origin": "refined",
            "area_m2": 1.0,
        },
        geometry=truth.geometry.to_numpy(),
        crs=truth.crs,
    )
    features["area_m2"] = features.area
    path = folder / "map.gpkg"
    write_result(features, path, {"credits": CREDITS})
    return scene, path


@pytest.fixture
def desk(town: tuple[Path, Path], tmp_path: Path) -> Iterator[Desk]:
    opened = Desk.open(*town, edits=tmp_path / "edits.gpkg", who="Ada", device="cpu")
    yield opened
    opened.close()


@pytest.fixture
def serving(desk: Desk) -> Iterator[Serving]:
    server = Serving(desk, page=True)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    yield server
    while Client.made:
        Client.made.pop().close()
    server.stop()
    thread.join(20)
    assert not thread.is_alive()


@pytest.fixture
def client(serving: Serving) -> Client:
    return Client(serving)
