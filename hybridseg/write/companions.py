"""Files that stand beside a result under its name: QGIS's metadata and the STAC Item. None of somebody else is lost."""

from __future__ import annotations

from pathlib import Path

from hybridseg.errors import OutputError
from hybridseg.files import check_output
from hybridseg.write.formats import FORMATS
from hybridseg.write.lineage import WRITTEN

QMD, ITEM = ".qmd", ".stac.json"
_MARKS = {QMD: WRITTEN, ITEM: '"hybridseg"'}
"""What stands in a companion that hybridseg wrote, even when QGIS has saved it again."""


def qmd_of(path: Path | str) -> Path | None:
    """Return where QGIS's metadata of a result stand, once it is certain that they can be written; None: in the file.

    Raises:
        OutputError: as of `companion`.
    """
    format_ = FORMATS.get(Path(path).suffix.lower())
    return None if format_ is not None and format_.many else companion(path, QMD)


def companion(path: Path | str, suffix: str) -> Path:
    """Return one file beside a result, `QMD` or `ITEM`, once it is certain that it can be written.

    Raises:
        OutputError: it cannot be, or is of somebody else: a scene may have a .qmd of its own.
    """
    path = Path(path)
    beside = check_output(path.with_name(path.stem + suffix), [suffix, Path(suffix).suffix])
    try:
        ours = not beside.exists() or _MARKS[suffix] in beside.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise OutputError(f"{beside}, which goes with {path.name}, cannot be read ({error.strerror})") from error
    if not ours:
        raise OutputError(
            f"{beside} was not written by hybridseg and would be lost, as it has the name of {path.name}: "
            "choose another name or move it"
        )
    return beside
