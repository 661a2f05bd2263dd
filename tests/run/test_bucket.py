from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import geopandas as gpd
import pytest
import shapely

from hybridseg.errors import HybridsegError, OutputError
from hybridseg.run import bucket as module
from hybridseg.run.bucket import Bucket
from hybridseg.run.engine import Serial, failed
from hybridseg.run.store import key_of
from hybridseg.types import Failure
from hybridseg.write.result import read_result
from tests.run.test_engine import jobs, letters
from townscape import render_town

pytest.importorskip("obstore", reason="obstore is not installed: hybridseg[cloud]")
SERVER = shutil.which("moto_server")
pytestmark = pytest.mark.skipif(SERVER is None, reason="moto_server is not on the path: pip install 'moto[server]'")


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    """A server that speaks as s3 does, on this machine: the variables that lead to it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    assert SERVER is not None
    process = subprocess.Popen([SERVER, "-H", "127.0.0.1", "-p", str(port)], stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(urllib.request.Request(f"{url}/maps", method="PUT")).close()
                break
            except urllib.error.URLError:
                time.sleep(0.2)
        yield {
            "AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_REGION": "us-east-1",
        }  # fmt: skip
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def aws(server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    return server


@pytest.fixture
def url(aws: dict[str, str], request: pytest.FixtureRequest) -> str:
    return f"s3://maps/{request.node.name}"


def rows(number: int) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame({"number": [number]}, geometry=[shapely.box(0, 0, 1, 1)], crs="EPSG:32645")


def test_what_one_process_saved_another_loads(url: str) -> None:
    here, there, key = Bucket(url), Bucket(url), key_of("rows", 1)
    assert not there.has(key)
    assert there.load(key) is None
    here.save(key, rows(7))
    assert there.has(key)
    assert Bucket(url).has(key)
    assert there.load(key)["number"].tolist() == [7]
    assert list(here.folder.iterdir()) == [], "nothing is left on the disk"


def test_what_is_damaged_counts_as_missing(url: str) -> None:
    store, key = Bucket(url), key_of("rows", 1)
    store._objects.put(store._name(key), b"no")
    assert store.load(key) is None


def test_failures_are_forgotten(url: str) -> None:
    store, task = Bucket(url), jobs("o")[0]
    store.save(failed(task), Failure("window 0", "no luck"))
    assert store.load(failed(task)) == Failure("window 0", "no luck")
    store.forget_failures()
    assert Bucket(url).load(failed(task)) is None


def test_one_of_many_holds_a_claim(url: str) -> None:
    stores = [Bucket(url) for _ in range(8)]
    inside, most, held = 0, 0, list[bool]()
    lock, start = threading.Lock(), threading.Barrier(8)

    def work(store: Bucket) -> None:
        nonlocal inside, most
        start.wait()
        with store.claim("result") as mine:
            held.append(mine)
            with lock:
                inside += mine
                most = max(most, inside)
            time.sleep(1)
            with lock:
                inside -= mine

    threads = [threading.Thread(target=work, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (sum(held), most) == (1, 1)
    with stores[0].claim("result") as mine:
        assert mine, "it was let go"


def test_a_claim_is_renewed_while_the_work_goes_on(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEASE_S", 1.0)
    monkeypatch.setattr(module, "_is_gone", lambda _: False)
    here, there = Bucket(url), Bucket(url)
    with here.claim("result"):
        until = time.monotonic() + 3
        while time.monotonic() < until:
            with there.claim("result") as mine:
                assert not mine
            time.sleep(0.1)


def test_a_claim_that_nobody_renews_is_taken_over(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEASE_S", 1.0)
    monkeypatch.setattr(module, "_is_gone", lambda _: False)
    here, there = Bucket(url), Bucket(url)
    name = f"{here._prefix}/parts/claims/result"
    here._objects.put(name, module._signed())
    begun = time.monotonic()
    with there.claim("result", wait=True) as mine:
        assert mine
        assert time.monotonic() - begun >= 1


def test_the_claim_of_a_process_that_ended_here_is_taken_at_once(url: str, aws: dict[str, str]) -> None:
    code = (
        "import os, sys; from hybridseg.run.bucket import Bucket\n"
        "with Bucket(sys.argv[1]).claim('result') as mine: os._exit(9 if mine else 1)"
    )
    done = subprocess.run([sys.executable, "-c", code, url], env=os.environ | aws, check=False)
    assert done.returncode == 9
    begun = time.monotonic()
    with Bucket(url).claim("result", wait=True) as mine:
        assert mine
    assert time.monotonic() - begun < 20


def test_processes_share_the_tasks_of_a_run(url: str) -> None:
    tasks, done = jobs("oooxoooo"), dict[int, str]()

    def work(number: int) -> None:
        done[number] = letters(list(Serial().run(tasks, Bucket(url))))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {number: sorted(each) for number, each in done.items()} == dict.fromkeys((0, 1), sorted("oooxoooo"))
    assert [len(task.calls) for task in tasks] == [1] * 8, "none is done twice"


def test_files_to_look_at_go_into_the_run(url: str) -> None:
    store = Bucket(url)
    with store.for_people() as folder:
        (folder / "heatmap.tif").write_bytes(b"pixels")
    assert bytes(store._objects.get(f"{store._prefix}/heatmap.tif").bytes()) == b"pixels"


@pytest.mark.parametrize("given", ["s3://maps", "s3://", "s3:///run"])
def test_a_url_without_bucket_or_place_is_refused(given: str, aws: dict[str, str]) -> None:
    with pytest.raises(OutputError, match="give s3://BUCKET/RUN"):
        Bucket(given)


def test_a_bucket_that_is_not_there_is_said_in_one_line(aws: dict[str, str]) -> None:
    with pytest.raises(OutputError, match=r"cannot be used .*the bucket must exist") as caught:
        Bucket("s3://none-such/run")
    assert "\n" not in str(caught.value)


def test_without_obstore_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(HybridsegError, match=r"hybridseg\[cloud\]"):
        Bucket("s3://maps/run")


def test_two_extractions_share_a_run_in_a_bucket(url: str, aws: dict[str, str], tmp_path: Path) -> None:
    scene, _ = render_town(256, 0.5, seed=3, density=0.7).write(tmp_path)
    asked = [sys.executable, "-m", "hybridseg", "extract", str(scene), "--theme", "buildings", "--refiner", "none"]
    outs = [tmp_path / name / "map.gpkg" for name in ("one", "two", "alone")]
    for out in outs:
        out.parent.mkdir()
    started = [
        subprocess.Popen([*asked, str(out), "--run", url], env=os.environ | aws, stdout=subprocess.DEVNULL)
        for out in outs[:2]
    ]
    assert [process.wait() for process in started] == [0, 0]
    subprocess.run([*asked, str(outs[2])], env=os.environ | aws, stdout=subprocess.DEVNULL, check=True)
    one, two, alone = (read_result(out) for out in outs)
    assert len(alone)
    assert sorted(one["id"]) == sorted(two["id"]) == sorted(alone["id"])
    names = [
        each["path"].rpartition("/")[2] for some in Bucket(url)._objects.list(Bucket(url)._prefix) for each in some
    ]
    assert {"heatmap.tif", "prompts.parquet", "refined.parquet"} < set(names)
