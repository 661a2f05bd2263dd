"""The model folder appears when all of it is there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hybridseg.errors import OutputError
from hybridseg.files import check_not_input

FILES = ("weights.safetensors", "card.yaml", "curves.png")
"""Files of a model folder beside its themes."""
THEMES = "theme*.yaml"
"""Themes of a model folder; those of a former model are removed."""


def check_folder(out: Path, inputs: Iterable[object]) -> None:
    """Refuse a folder in which a model would be written over what it is made from.

    Args:
        out: the model folder.
        inputs: as of `check_not_input`.

    Raises:
        OutputError: one of the model's files is one of the inputs.
    """
    inputs = list(inputs)
    for file in [*(out / name for name in FILES), *out.glob(THEMES)]:
        check_not_input(file, inputs)


@contextmanager
def model_at(out: Path) -> Iterator[Path]:
    """A folder beside `out` to fill; when the block ends well, its files take the place of those of a former model.

    Raises:
        OutputError: `out` cannot be made, or holds something else than a model.
    """
    if out.is_dir() and any(out.iterdir()) and not (out / "card.yaml").exists():
        raise OutputError(f"the folder {out} holds something else than a model; give --out a new name")
    try:
        if out.exists() and not out.is_dir():
            raise FileExistsError(17, "a file is in its place")
        out.parent.mkdir(parents=True, exist_ok=True)
        beside = tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent)
    except OSError as error:
        raise OutputError(f"cannot make the folder {out}: {error.strerror}; give another --out") from error
    with beside as name:
        yield Path(name)
        out.mkdir(exist_ok=True)
        fresh = os.listdir(name)
        for former in [*out.glob(THEMES), out / "curves.png"]:
            if former.name not in fresh:
                former.unlink(missing_ok=True)
        for file in fresh:
            os.replace(Path(name) / file, out / file)
