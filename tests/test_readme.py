"""The README's commands, run as written, in order, in an empty folder."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from hybridseg.cli import main
from hybridseg.write.result import read_provenance, read_result

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()
COMMANDS = [
    shlex.split(line, comments=True)[1:]
    for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("hybridseg ")
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `make demo` has run, on a smaller town."""
    folder = tmp_path_factory.mktemp("readme")
    assert "hybridseg demo --folder demo" in (ROOT / "Makefile").read_text()
    assert main(["demo", "--folder", str(folder / "demo"), "--size-px", "384"]) == 0
    assert (folder / "demo" / "buildings.png").stat().st_size > 10_000
    return folder


def test_every_command_works(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(folder)
    # a page would stay open until somebody closes it
    monkeypatch.setattr("hybridseg.reviewing.server.serving.Serving.run", lambda serving, *_: serving._socket.close())
    monkeypatch.setattr("webbrowser.open", lambda address: address.startswith("http://127.0.0.1"))
    assert len(COMMANDS) >= 5
    for command in COMMANDS:
        if "--help" in command:
            with pytest.raises(SystemExit) as left:
                main(command)
            assert left.value.code == 0
        else:
            assert main(command) == 0, capsys.readouterr().err
    left = {p.name for p in (folder / "run").glob("*.*")}
    assert left == {"heatmap.tif", "heatmap.qmd", "prompts.parquet", "refined.parquet"}
    assert len(read_result(folder / "map.gpkg")) > 3
    (theme,) = read_provenance(folder / "map.gpkg")["request"]["themes"]
    assert yaml.safe_load(theme)["name"] == "buildings"
    assert set(read_result(folder / "coarse.gpkg")["origin"]) == {"coarse"}


def test_the_python_examples_work(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """In order, as in one notebook; the steps of the heart make what the verb makes."""
    monkeypatch.chdir(folder)
    examples = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert any(".heatmap(" in example for example in examples)
    names: dict = {}
    verb = None
    for example in examples:
        exec(example, names)
        verb = verb or names["result"]
    assert len(verb.features) > 3
    for features in (names["result"].features, names["features"].rows):
        assert features["id"].tolist() == verb.features["id"].tolist()
        assert features.geometry.geom_equals(verb.features.geometry).all()


def test_what_the_readme_points_at_is_there():
    for link in re.findall(r"\]\(([^)#]+)\)", TEXT):
        if not link.startswith("http"):
            assert (ROOT / link).exists(), link
    for path in re.findall(r"`((?:hybridseg|configs|tests|docs|notebooks)/[\w/.]*)`", TEXT):
        assert (ROOT / path).exists(), path
