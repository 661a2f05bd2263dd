from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("resource", reason="Windows has no limit of the size of files")

NAMES = ["a.tif", "a.gpkg", "lines.gpkg", "a.fgb", "a.geojson", "a.parquet"]


@pytest.fixture(scope="module")
def tries(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    script, folder = Path(__file__).with_name("full_disk.py"), tmp_path_factory.mktemp("full")
    done = subprocess.run([sys.executable, script, folder, "10", *NAMES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("name", NAMES)
def test_a_full_disk_is_one_line_and_costs_no_file(name: str, tries: list[dict]) -> None:
    ours = [each for each in tries if each["name"] == name]
    assert len(ours) == 10
    for each in ours:
        assert each["kept"] == bool(each["said"]), each  # an error and the former file, or neither
        assert each["sound"], each
        assert "\n" not in each["said"]
        assert ".hybridseg-" not in each["said"]
        assert set(each["left"]) <= {name, f"{name}.aux.xml", *(f"{Path(name).stem}{end}" for end in (".qmd", ".qml"))}
    assert {each["kept"] for each in ours} == {True, False}
