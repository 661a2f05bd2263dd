"""How long a click takes over HTTP: `python -m benchmarks.clicks SCENE [--refiner NAME] [--clicks 100] [--views 200]`.

A server of its own process is asked on one connection, as a page does: first the place is encoded, then each click is
another one on it; then the pointer hovers over it for 3 s; then other views are encoded and clicked on, and the memory
of the server is looked at. `--refiner random:sam2.1-hiera-tiny`: an official architecture with random weights.
Wall time under load says little: the server's own processor time stands beside it, and the load.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch


def main() -> None:
    """Measure, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scene")
    parser.add_argument("--refiner", default="sam2-lite")
    parser.add_argument("--clicks", type=int, default=100)
    parser.add_argument("--views", type=int, default=200)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        refiner = asked.refiner
        if refiner.startswith("random:"):
            from tests.nn.checkpoints import official

            name = refiner.removeprefix("random:")
            refiner = str(Path(folder) / f"{name.replace('-', '_')}.pt")
            torch.save({"model": official(name).state_dict()}, refiner)
        command = [sys.executable, "-m", "hybridseg", "serve", asked.scene, "--refiner", refiner, "--json"]
        command += ["--device", "cpu", "--edits", str(Path(folder) / "edits.gpkg")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            address = json.loads(server.stdout.readline())
            try:
                found = _measure(address, server.pid, asked.clicks, asked.views)
            finally:
                server.terminate()
    print(json.dumps({"refiner": asked.refiner, "cores": os.cpu_count(), **found}))


def _measure(address: dict[str, Any], process: int, count: int, views: int) -> dict[str, Any]:
    host, port = address["url"].removeprefix("http://").rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port))
    headers = {"Authorization": f"Bearer {address['token']}", "Content-Type": "application/json"}

    def ask(method: str, path: str, body: Any = None) -> tuple[Any, float]:
        begun = time.perf_counter()
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = json.loads(connection.getresponse().read())
        return answer, 1000 * (time.perf_counter() - begun)

    scene, _ = ask("GET", "/api/scene")
    a, b, c, d, e, f = scene["affine"]
    side = 256  # px of the view
    x, y = scene["width"] / 2, scene["height"] / 2
    unit = abs(a * e - b * d) ** 0.5
    look = {"x": a * x + b * y + c, "y": d * x + e * y + f, "span": side * unit}
    _, encode_ms = ask("POST", "/api/encode", look)
    rng = random.Random(0)
    times, before = [], 0.0
    for number in range(count + 5):
        if number == 5:  # the first ones load what is imported on use
            before = _cpu_s(process)
        col, row = x + rng.uniform(-side / 4, side / 4), y + rng.uniform(-side / 4, side / 4)
        at = {"x": a * col + b * row + c, "y": d * col + e * row + f}
        _, taken = ask("POST", "/api/segment", {"points": [at], "span": look["span"]})
        times.append(taken)
    cpu_ms = 1000 * (_cpu_s(process) - before) / count

    def at(col: float, row: float) -> dict[str, float]:
        return {"x": a * col + b * row + c, "y": d * col + e * row + f}

    hovers, begun, before = 0, time.perf_counter(), _cpu_s(process)
    while time.perf_counter() - begun < 3:
        point = at(x + rng.uniform(-side / 4, side / 4), y + rng.uniform(-side / 4, side / 4))
        ask("POST", "/api/segment", {"points": [point], "span": look["span"], "preview": True})
        hovers += 1
    hover_cpu_ms = 1000 * (_cpu_s(process) - before) / hovers
    held = {}
    for number in range(1, views + 1):
        place = at(rng.uniform(0, scene["width"]), rng.uniform(0, scene["height"]))
        ask("POST", "/api/encode", {**place, "span": look["span"]})
        ask("POST", "/api/segment", {"points": [place], "span": look["span"]})
        if number in (views // 4, views // 2, views):
            held[number] = round(_memory_mb(process))
    connection.close()
    times = sorted(times[5:])
    return {
        "clicks": count,
        "median_ms": round(statistics.median(times), 1),
        "p95_ms": round(times[int(0.95 * count)], 1),
        "server_cpu_ms_a_click": round(cpu_ms, 1),
        "hovers_a_second": round(hovers / 3, 1),
        "server_cpu_ms_a_hover": round(hover_cpu_ms, 1),
        "server_mb_after_views": held,
        "first_encode_ms": round(encode_ms, 1),
        "load": round(os.getloadavg()[0], 1),
    }


def _cpu_s(process: int) -> float:
    """Processor seconds of a process so far (Linux)."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory_mb(process: int) -> float:
    """Resident memory of a process (Linux)."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


if __name__ == "__main__":
    main()
