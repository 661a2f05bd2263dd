from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import hybridseg

PACKAGE = Path(hybridseg.__file__).parent


def test_files_are_short():
    long = {p.name: n for p in PACKAGE.rglob("*.py") if (n := len(p.read_text().splitlines())) > 300}
    assert not long


def test_importing_hybridseg_leaves_torch_out():
    code = "import sys, hybridseg.cli; print([m for m in ('torch', 'sam2', 'timm', 'lightning') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_are_sorted_and_there():
    assert hybridseg.__all__ == sorted(hybridseg.__all__)
    assert all(hasattr(hybridseg, name) for name in hybridseg.__all__)
