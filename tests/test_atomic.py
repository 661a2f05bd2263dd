from __future__ import annotations

import os
from pathlib import Path

import pytest

from hybridseg.atomic import SIDECARS, check_output, replacing
from hybridseg.errors import OutputError


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def sidecar(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def test_replaces_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.gpkg"
    path.write_text("old")
    with replacing(path) as beside:
        beside.write_text("new")
        assert beside.suffix == ".gpkg"
        assert beside.parent == tmp_path
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names(tmp_path) == {"a.gpkg"}


def fail_halfway(path: Path) -> None:
    with replacing(path) as beside:
        for suffix in ("", *SIDECARS, ".ovr.tmp"):
            sidecar(beside, suffix).write_text("half")
        raise KeyboardInterrupt


def test_failure_leaves_the_former_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a [1].tif"  # glob's own characters
    path.write_text("old")
    sidecar(path, ".aux.xml").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        fail_halfway(path)
    assert names(tmp_path) == {"a [1].tif", "a [1].tif.aux.xml"}
    assert path.read_text() == "old"


def test_sidecars_follow_their_file(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    for suffix in SIDECARS:
        sidecar(path, suffix).write_text("stale")
    with replacing(path) as beside:
        beside.write_text("new")
        sidecar(beside, ".aux.xml").write_text("fresh")
    assert names(tmp_path) == {"a.tif", "a.tif.aux.xml"}
    assert sidecar(path, ".aux.xml").read_text() == "fresh"


def replace_with(path: Path, text: str) -> None:
    with replacing(path) as beside:
        beside.write_text(text)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="there is no folder") as caught:
        replace_with(tmp_path / "missing" / "a.gpkg", "")
    assert "\n" not in str(caught.value)


def test_folder_in_the_files_place(tmp_path: Path) -> None:
    (tmp_path / "a.gpkg").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        replace_with(tmp_path / "a.gpkg", "")


def test_file_held_by_another_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OutputError, match="permission denied"):
        replace_with(tmp_path / "a.gpkg", "")
    assert names(tmp_path) == set()


def test_check_output_names_the_suffixes(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"has '\.shp': choose one of \.fgb, \.gpkg"):
        check_output(tmp_path / "a.shp", (".gpkg", ".fgb"))
    with pytest.raises(OutputError, match="has no suffix"):
        check_output(tmp_path / "a", (".gpkg",))
    assert check_output(tmp_path / "a.GPKG", (".gpkg",)) == tmp_path / "a.GPKG"


def test_check_output_tries_the_folder() -> None:
    with pytest.raises(OutputError, match=r"cannot be written \(.* in /proc\)"):  # where not even root may
        check_output("/proc/a.gpkg", (".gpkg",))


def test_check_output_refuses_an_input(tmp_path: Path) -> None:
    path, other = tmp_path / "a.gpkg", tmp_path / "b.gpkg"
    path.touch()
    other.symlink_to(path)
    for name in (path, other, tmp_path / "." / "a.gpkg"):
        with pytest.raises(OutputError, match="is one of the inputs"):
            check_output(name, (".gpkg",), ["https://a/b.gpkg", path])
    assert check_output(path, (".gpkg",), [tmp_path / "none.gpkg"]) == path


@pytest.mark.parametrize(
    ("error", "raised"), [(OSError(28, "No space left"), OutputError), (OSError("library's"), OSError)]
)
def test_a_full_disk(tmp_path: Path, error: OSError, raised: type[Exception]) -> None:
    with pytest.raises(raised, match=r"no space left|library's"), replacing(tmp_path / "a.gpkg"):
        raise error
    assert names(tmp_path) == set()
