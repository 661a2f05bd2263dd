"""Rasters behind a server: read like files, told from damaged ones when the server fails, known by their ETag."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio

from hybridseg.errors import SourceError, SourceUnavailable
from hybridseg.read import raster
from hybridseg.read.opening import open_scene
from hybridseg.types import Window
from tests.rasters import default_image, make, utm_affine, write


class Server:
    """The server's address, and what it does."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port, self.number = folder, port, 0

    def will(self, file: Path | None = None, etag: str = '"one"', fails: str = "") -> None:
        """Tell it what to do from now on."""
        state = {"file": str(file or self.folder / "rgb.tif"), "etag": etag, "fails": fails}
        (self.folder / "next.json").write_text(json.dumps(state))
        (self.folder / "next.json").replace(self.folder / "state.json")

    def url(self, query: str = "", user: str = "") -> str:
        """A fresh address, as GDAL remembers what it read from one."""
        self.number += 1
        return f"http://{user}127.0.0.1:{self.port}/{self.number}/scene.tif{query}"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    make("rgb", folder)
    command = [sys.executable, "-m", "tests.read.http_server", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout is not None
        yield Server(folder, int(process.stdout.readline()))
        process.terminate()


@pytest.fixture
def server(running: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    running.will()
    return running


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests are given up soon."""
    monkeypatch.setattr(raster, "_HTTP", {"GDAL_HTTP_TIMEOUT": 2, "GDAL_HTTP_MAX_RETRY": 0})


def large(folder: Path) -> Path:
    """A raster whose stretch is taken from an overview, so that opening it does not fetch its pixels."""
    noise = np.random.default_rng(0).integers(0, 255, (3, 2100, 2100)).astype(np.uint8)
    path = write(folder / "large.tif", noise, utm_affine(0.3), photometric="rgb")
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2])
    return path


def test_a_url_is_read_as_the_file_is(server: Server) -> None:
    file, scene = open_scene(server.folder / "rgb.tif"), open_scene(server.url(user="me:secret@", query="?sig=hidden"))
    window = Window(-5, 9, 60, 70)
    np.testing.assert_array_equal(scene.read_window(window, 50).pixels, file.read_window(window, 50).pixels)
    assert "secret" not in scene.name
    assert "hidden" not in scene.name
    assert scene.name.startswith("http://127.0.0.1")
    assert scene.name.endswith("scene.tif")


def test_the_etag_is_the_fingerprint(server: Server) -> None:
    first = open_scene(server.url()).fingerprint
    assert open_scene(server.url()).fingerprint == first
    server.will(etag='"two"')
    assert open_scene(server.url()).fingerprint != first


def test_without_an_etag_the_sampled_pixels_tell(server: Server, tmp_path: Path) -> None:
    server.will(etag="")
    first = open_scene(server.url()).fingerprint
    assert open_scene(server.url()).fingerprint == first
    server.will(make("rgb", tmp_path, default_image(seed=5)), etag="")
    assert open_scene(server.url()).fingerprint != first


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    ("fails", "words"),
    [
        ("503", "HTTP response code: 503"), ("500", "code: 500"), ("429", "code: 429"),
        ("stall", "timed out"), ("close", "Empty reply|closed"),
    ],
)  # fmt: skip
def test_a_server_that_fails_is_unavailable(fails: str, words: str, server: Server) -> None:
    server.will(fails=fails)
    with pytest.raises(SourceUnavailable, match=f"cannot be reached .*({words}).*; try again") as caught:
        open_scene(server.url("?sig=hidden"))
    assert "hidden" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_port_where_nobody_listens_is_unavailable(server: Server) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(SourceUnavailable, match=r"cannot be reached .*connect"):
        open_scene(f"http://127.0.0.1:{port}/scene.tif")


@pytest.mark.parametrize("fails", ["404", "403"])
def test_what_is_not_there_is_not_tried_again(fails: str, server: Server) -> None:
    server.will(fails=fails)
    with pytest.raises(SourceError, match=f"HTTP response code: {fails}") as caught:
        open_scene(server.url())
    assert not isinstance(caught.value, SourceUnavailable)


def test_what_is_no_raster_is_not_tried_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "words.tif").write_bytes(b"These are words.\n" * 99)
    server.will(tmp_path / "words.tif")
    with pytest.raises(SourceError, match="is not a raster that GDAL can open") as caught:
        open_scene(server.url())
    assert not isinstance(caught.value, SourceUnavailable)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("fails", ["503", "stall", "close"])
def test_a_window_can_be_read_when_the_server_is_back(fails: str, server: Server, tmp_path: Path) -> None:
    file = large(tmp_path)
    server.will(file)
    scene = open_scene(server.url())
    scene.read_window(Window(0, 0, 64, 64), 64)  # so the file is open
    corner = Window(1400, 1400, 64, 64)
    server.will(file, fails=fails)
    with pytest.raises(SourceUnavailable, match="cannot be reached"):
        scene.read_window(corner, 64)
    server.will(file)
    there = open_scene(file).read_window(corner, 64)
    np.testing.assert_array_equal(scene.read_window(corner, 64).pixels, there.pixels)


def test_a_file_cut_short_keeps_gdals_words(tmp_path: Path) -> None:
    with pytest.raises(
        SourceError, match=r"cut_short.tif cannot be read to its end \(.+\): the file is damaged"
    ) as caught:
        open_scene(make("cut_short", tmp_path))
    assert not isinstance(caught.value, SourceUnavailable)
