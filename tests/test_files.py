from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from affine import Affine

from hybridseg import folders
from hybridseg.errors import OutputError
from hybridseg.files import SIDECARS, check_not_input, check_output, replacing
from hybridseg.folders import TemporaryFolder


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def sidecar(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def test_replaces_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.gpkg"
    path.write_text("old")
    with replacing(path) as beside:
        beside.write_text("new")
        assert beside.name == path.name
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


KILLED = """
import os, pathlib, signal, sys
from hybridseg import folders
from hybridseg.files import replacing
folders.BEAT_S = float(sys.argv[2])
with replacing(sys.argv[1]) as beside:
    beside.write_text("half")
    print(beside.parent, flush=True)
    sys.stdin.read(1)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no flock")
@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "on another machine"])
def test_what_a_killed_run_left_is_removed_by_the_next_and_what_is_in_use_is_not(
    elsewhere: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "LOOK_AGAIN_S", 0.0)
    if elsewhere:  # its locks are not seen, only that it renews its folder
        monkeypatch.setattr(folders, "fcntl", None)
        monkeypatch.setattr(folders, "SILENT_S", 3.0)

    def begin() -> tuple[subprocess.Popen[str], Path]:
        command = [sys.executable, "-c", KILLED, tmp_path / "map.gpkg", "0.2" if elsewhere else "30"]
        run = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert run.stdout is not None
        return run, Path(run.stdout.readline().strip())

    def age(folder: Path) -> None:
        os.utime(folder, (time.time() - 3600,) * 2)

    (killed, left), (alive, used) = begin(), begin()
    with killed, alive:
        killed.communicate("x")
        replace_with(tmp_path / "other.gpkg", "new")
        assert left.exists(), "it may have been made this moment"
        (tmp_path / ".hybridseg-mine").touch()
        for folder in (left, used, tmp_path / ".hybridseg-mine"):
            age(folder)
        while elsewhere and time.time() - used.stat().st_mtime > 1:
            time.sleep(0.05)  # until it is renewed
        replace_with(tmp_path / "other.gpkg", "newer")
        assert names(tmp_path) == {"other.gpkg", used.name, ".hybridseg-mine"}
        assert (used / "map.gpkg").read_text() == "half"
        alive.communicate("x")
    time.sleep(3.5 if elsewhere else 0)
    if not elsewhere:
        age(used)
    replace_with(tmp_path / "other.gpkg", "newest")
    assert names(tmp_path) == {"other.gpkg", ".hybridseg-mine"}


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


def test_any_other_error_passes_unchanged(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="ours"), replacing(tmp_path / "a.gpkg", errors=(ValueError,)):
        raise KeyError("ours")
    reported = pytest.raises(OutputError, match=r"cannot be written \(theirs\)")
    with reported, replacing(tmp_path / "a.gpkg", errors=(LookupError,)):
        raise KeyError("ours") from LookupError("theirs")


@pytest.mark.parametrize("suffix", SIDECARS)
def test_a_file_never_stands_beside_the_sidecar_of_another(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.tif"
    path.write_text("old")
    sidecar(path, suffix).write_text("old")
    seen = []

    def watched(source: Path, target: Path) -> None:
        os.rename(source, target)
        beside = sidecar(path, suffix)
        seen.append((path.read_text(), beside.read_text() if beside.exists() else None))

    monkeypatch.setattr(os, "replace", watched)
    with replacing(path) as beside:
        beside.write_text("new")
        sidecar(beside, suffix).write_text("new")
    assert seen == [("old", None), ("new", None), ("new", "new")]


def test_a_file_that_cannot_be_replaced_keeps_its_sidecars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.gpkg"
    path.write_text("old")
    sidecar(path, "-wal").write_text("old")

    def refuse(source: Path, target: Path) -> None:
        if target == path:
            raise PermissionError(13, "Permission denied")
        os.rename(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OutputError, match="permission denied"):
        replace_with(path, "new")
    assert (path.read_text(), sidecar(path, "-wal").read_text()) == ("old", "old")


def test_a_damaged_file_replaces_nothing(tmp_path: Path) -> None:
    def verify(path: Path) -> None:
        assert path.name == "a.tif"
        if "whole" not in path.read_text():
            raise ValueError("end is\nmissing")

    path = tmp_path / "a.tif"
    with replacing(path, verify) as beside:
        beside.write_text("whole")
    refused = pytest.raises(OutputError, match=r"a\.tif was damaged while it was written \(end is missing\)")
    with refused, replacing(path, verify) as beside:
        beside.write_text("half")
    assert path.read_text() == "whole"
    assert names(tmp_path) == {"a.tif"}


def test_permissions_stay(tmp_path: Path) -> None:
    path = tmp_path / "a.gpkg"
    path.touch(0o600)
    with replacing(path) as beside:
        beside.write_text("new")
        sidecar(beside, ".aux.xml").write_text("new")
    assert path.stat().st_mode & 0o777 == sidecar(path, ".aux.xml").stat().st_mode & 0o777 == 0o600
    replace_with(tmp_path / "b.gpkg", "new")
    (tmp_path / "plain").touch()
    assert (tmp_path / "b.gpkg").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_nobody_else_reads_a_private_file_while_it_is_written(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.gpkg") as beside:
        beside.touch()
        assert beside.parent.stat().st_mode & 0o077 == 0


def test_a_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    real, link = tmp_path / "far" / "real.tif", tmp_path / "link.tif"
    real.write_text("old")
    sidecar(link, ".aux.xml").write_text("old")
    link.symlink_to(Path("far", "real.tif"))
    with replacing(link) as beside:
        beside.write_text("new")
        sidecar(beside, ".aux.xml").write_text("fresh")
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert sidecar(real, ".aux.xml").read_text() == sidecar(link, ".aux.xml").read_text() == "fresh"
    with replacing(link) as beside:
        assert beside.name == "link.tif"
        beside.write_text("newer")
    assert names(tmp_path) | names(tmp_path / "far") == {"far", "link.tif", "real.tif"}


def test_a_write_protected_file_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.gpkg").touch()
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may always
    with pytest.raises(OutputError, match="is write-protected"):
        replace_with(tmp_path / "a.gpkg", "")


@pytest.mark.parametrize("name", ["a\0.gpkg", "a" * 300 + ".gpkg", os.fsdecode(b"\xff.gpkg")])
def test_names_that_no_file_can_have(name: str, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot be a file's name|is not a name in UTF-8") as caught:
        check_output(tmp_path / name, (".gpkg",))
    assert str(caught.value).isprintable()


class TestInputs:
    """No output takes the place of anything that is read."""

    @pytest.fixture
    def scene(self, tmp_path: Path) -> Path:
        path = tmp_path / "in" / "scene.tif"
        path.parent.mkdir()
        settings = {"driver": "GTiff", "width": 8, "height": 8, "count": 1, "dtype": "uint8", "crs": "EPSG:32633"}
        with rasterio.open(path, "w", **settings, transform=Affine(1, 0, 5e5, 0, -1, 5e6)) as target:
            target.write(np.ones((1, 8, 8), np.uint8))
        return path

    def refused(self, path: Path | str, *inputs: object) -> bool:
        try:
            check_not_input(path, inputs)
        except OutputError:
            return True
        return False

    def test_by_any_path(self, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(scene.parent)
        for name in ("scene.tif", "./scene.tif", f"../{scene.parent.name}/scene.tif", str(scene)):
            assert self.refused(name, scene)
            assert self.refused(scene, name)
        assert not self.refused("other.tif", scene)
        with pytest.raises(OutputError, match="is one of the inputs"):
            check_output("scene.tif", (".tif",), [None, scene])

    def test_by_links(self, scene: Path, tmp_path: Path) -> None:
        symbolic, hard, folder = tmp_path / "s.tif", tmp_path / "h.tif", tmp_path / "folder"
        symbolic.symlink_to(scene)
        os.link(scene, hard)
        folder.symlink_to(scene.parent)
        for name in (symbolic, hard, folder / "scene.tif"):
            assert self.refused(name, scene)
            assert self.refused(scene, name)

    def test_by_letter_case(self, scene: Path) -> None:
        assert self.refused(scene.with_name("Scene.TIF"), scene)  # one file on Windows and macOS

    @pytest.mark.parametrize("name", ["GTIFF_DIR:1:{}", "file://{}", "vrt://{}?bands=1"])
    def test_as_gdal_spells_it(self, name: str, scene: Path) -> None:
        assert self.refused(scene, name.format(scene))

    def test_tiles_of_a_mosaic(self, scene: Path, tmp_path: Path) -> None:
        rasterio.shutil.copy(scene, tmp_path / "a.vrt", driver="VRT")
        assert self.refused(scene, tmp_path / "a.vrt")
        with rasterio.open(tmp_path / "a.vrt") as mosaic:
            assert self.refused(scene, mosaic)
        assert not self.refused(tmp_path / "b.vrt", tmp_path / "a.vrt")

    def test_files_of_a_folder(self, scene: Path, tmp_path: Path) -> None:
        assert self.refused(scene, tmp_path)
        assert not self.refused(tmp_path / "new.tif", tmp_path)

    def test_a_folder_whose_files_are_replaced(self, scene: Path, tmp_path: Path) -> None:
        assert self.refused(tmp_path, scene)
        assert self.refused(scene.parent, scene)
        (tmp_path / "inner").mkdir()  # shares a beginning with the scene's folder
        assert not self.refused(tmp_path / "inner", scene)

    @pytest.mark.parametrize("source", ["https://host/scene.tif", "/vsis3/bucket/scene.tif", None, 3, "no file", ""])
    def test_what_is_no_local_file(self, source: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        assert not self.refused("scene.tif", source, np.ones((2, 2)))


def test_a_full_disk_is_called_so_whatever_the_library_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=4096))
    reported = pytest.raises(OutputError, match=r"cannot be written \(the disk is full\): make room")
    with reported, replacing(tmp_path / "a.tif", errors=(ValueError,)):
        raise ValueError("TIFFFillTile: read error")


def test_a_temporary_folder_that_cannot_be_made_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(OutputError, match=r"temporary files cannot be written .*TMPDIR") as error:
        TemporaryFolder()
    assert "\n" not in str(error.value)
