from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import hybridseg
import townscape
from tests.rasters import make

PACKAGES = [Path(package.__file__).parent for package in (hybridseg, townscape)]
NETWORKS = ("torch", "torchvision", "sam2", "timm", "lightning", "torchgeo", "terratorch")


def imported(code: str, names: tuple[str, ...]) -> set[str]:
    """Which of these modules a fresh process has after some code."""
    asked = f"import sys; {code}; print([name for name in {names!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    return set(ast.literal_eval(done.stdout.splitlines()[-1]))


def test_files_are_short():
    files = [file for package in PACKAGES for file in package.rglob("*.py")]
    long = {str(file): n for file in files if (n := len(file.read_text().splitlines())) > 300}
    assert not long


def test_importing_hybridseg_imports_nothing_else():
    assert imported("import hybridseg", (*NETWORKS, "numpy", "rasterio", "geopandas", "pydantic", "sklearn")) == set()


def test_importing_the_command_line_leaves_torch_out():
    assert imported("import hybridseg.cli", NETWORKS) == set()


def test_names_come_without_torch_and_models_bring_it():
    code = (
        "import hybridseg; values = [getattr(hybridseg, name) for name in hybridseg.__all__ if name != 'Models']; "
        f"early = [name for name in {NETWORKS!r} if name in sys.modules]; assert not early, early; hybridseg.Models"
    )
    assert {"torch", "sam2"} <= imported(code, NETWORKS)


def test_reading_writing_and_drawing_need_no_torch():
    code = (
        "import numpy as np; from odc.geo.geobox import GeoBox; from affine import Affine; "
        "from hybridseg import open_scene, load_theme; "
        "grid = GeoBox((8, 8), Affine(1, 0, 5e5, 0, -1, 5e6), 'EPSG:32633'); "
        "open_scene(np.ones((3, 8, 8), np.uint8), geobox=grid).read_grid(grid); load_theme('buildings').to_yaml()"
    )
    assert imported(code, NETWORKS) == set()


NEEDLESS = (
    "torch._dynamo", "torchvision", "timm", "torchgeo", "lightning", "sklearn", "matplotlib", "huggingface_hub",
    "httpx2", "xarray",
)  # fmt: skip


def test_a_plain_run_imports_nothing_that_it_does_not_need(tmp_path: Path):
    """Imports are most of a small run's time; torch's compiler alone, which timm imports, takes 1.5 s."""
    scene = make("rgb", tmp_path)
    code = (
        "from hybridseg.cli import main; "
        f"assert main(['extract', {str(scene)!r}, {str(tmp_path / 'map.gpkg')!r}, '--device', 'cpu']) == 0"
    )
    assert imported(code, ("torch", "sam2", *NEEDLESS)) == {"torch", "sam2"}


def test_public_names_are_sorted_and_there():
    assert hybridseg.__all__ == sorted(hybridseg.__all__)
    assert all(hasattr(hybridseg, name) for name in hybridseg.__all__)


def test_a_name_that_is_not_there_is_said_so():
    with pytest.raises(AttributeError, match="No hybridseg attribute volcanoes"):
        _ = hybridseg.volcanoes
    with pytest.raises(ImportError, match="volcanoes"):
        from hybridseg import volcanoes  # noqa: F401


def test_a_name_is_what_its_module_has_whatever_was_imported_before():
    """A package of the same name would take the place of the function once it is imported."""
    code = (
        "import importlib, hybridseg; "
        "values = {name: getattr(hybridseg, name) for name in hybridseg.__all__}; "
        "homes = {name: importlib.import_module(value.__module__) for name, value in values.items()}; "
        "wrong = [n for n, home in homes.items() if not getattr(hybridseg, n) is values[n] is getattr(home, n)]; "
        "assert not wrong, wrong"
    )
    assert imported(code, ()) == set()
    assert not set(hybridseg.__all__) & {path.stem for path in Path(hybridseg.__file__).parent.iterdir()}
