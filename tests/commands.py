"""Commands that must fail."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from rasterio.errors import NotGeoreferencedWarning

from hybridseg.cli import main


def one_line(arguments: list[str], folder: Path, capfd: pytest.CaptureFixture[str]) -> str:
    """Run what must fail; the line that it says. Nothing may be written into the folder."""
    before = sorted(folder.rglob("*"))
    with warnings.catch_warnings():
        warnings.simplefilter("error", NotGeoreferencedWarning)
        assert main(arguments) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    assert err.startswith("hybridseg: ")
    assert sorted(folder.rglob("*")) == before
    return err
