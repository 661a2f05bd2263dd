from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import hybridseg
import townscape

PACKAGES = [Path(package.__file__).parent for package in (hybridseg, townscape)]


def test_files_are_short():
    files = [file for package in PACKAGES for file in package.rglob("*.py")]
    long = {str(file): n for file in files if (n := len(file.read_text().splitlines())) > 300}
    assert not long


def test_importing_hybridseg_leaves_torch_out():
    code = "import sys, hybridseg.cli; print([m for m in ('torch', 'sam2', 'timm', 'lightning') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_are_sorted_and_there():
    assert hybridseg.__all__ == sorted(hybridseg.__all__)
    assert all(hasattr(hybridseg, name) for name in hybridseg.__all__)
