"""When a scene was taken: said by the user, by the name of its file, or by its tags."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from hybridseg.errors import SourceError
from hybridseg.read.opening import files_of
from hybridseg.read.part import tags_of
from hybridseg.read.paths import display_name
from hybridseg.run.request import words

_WHOLE = re.compile(r"(?<!\d)((?:19|20)\d\d)([-_.]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])(?:(?=T\d)|(?!\d))")
_LIKE_WHOLE = re.compile(r"(?<!\d)(?:19|20)\d\d([-_.])\d\d\1\d\d(?:(?=T\d)|(?!\d))")
_MONTH = re.compile(r"(?<!\d)((?:19|20)\d\d)[-_.](0[1-9]|1[0-2])(?!\d)")
_YEAR = re.compile(r"(?<!\d)((?:19|20)\d\d)(?!\d)")
_TAGS = ("TIFFTAG_DATETIME", "ACQUISITION_DATE", "ACQUISITIONDATETIME", "DATE_ACQUIRED", "acquired", "datetime")
"""Tags that tell when a scene was taken, or at least when its file was made. EXIF has colons in its dates."""
_EXAMPLE = "give --dates with one date a scene, e.g. --dates 2009-08-18,2012-07-31 (a year alone will do)"


def dates_of(scenes: Sequence[object], said: str | Sequence[str] | None = None) -> list[date]:
    """Return the date of each scene; of a year or a month alone, its first day.

    Args:
        scenes: paths, or anything that `open_scene` takes.
        said: dates that count instead of those of names and tags, in the order of the scenes.

    Raises:
        SourceError: a date is missing, cannot be understood, or is that of two scenes.
    """
    if said is not None:
        texts = words(said)
        if len(texts) != len(scenes):
            raise SourceError(f"{len(texts)} dates came with {len(scenes)} scenes; {_EXAMPLE}")
        found = [parse_date(text) for text in texts]
    else:
        found = [_date_of(scene) for scene in scenes]
    doubled = [day for day, times in Counter(found).items() if times > 1]
    if doubled:
        names = [shown(scene) for scene, day in zip(scenes, found, strict=True) if day == doubled[0]]
        raise SourceError(
            f"{' and '.join(names[:3])} have one date, {doubled[0]}; give one scene a date (tiles of one date: a "
            "folder or a pattern in quotes), or --dates"
        )
    return found


def parse_date(text: str) -> date:
    """Return the date that a text is: 2009-08-18, 20090818, 2009-08 or 2009.

    Raises:
        SourceError: it is none.
    """
    day = date_in(text.strip())
    if day is None or re.search("[A-SU-Za-z]", text):
        raise SourceError(f"{text!r} is no date; write it as in 2009-08-18, 2009-08 or 2009")
    return day


def date_in(text: str) -> date | None:
    """Return the date that a text holds: the last whole one, else a month, else a year; None: there is none.

    Raises:
        SourceError: its only whole date is one that does not exist, as 2019-13-45.
    """
    for match in reversed(list(_WHOLE.finditer(text))):
        try:
            return date(int(match[1]), int(match[3]), int(match[4]))
        except ValueError:  # the 31st of February
            continue
    if wrong := _LIKE_WHOLE.search(text):
        raise SourceError(f"{text!r} holds {wrong[0]}, a date that does not exist; {_EXAMPLE}")
    if months := list(_MONTH.finditer(text)):
        return date(int(months[-1][1]), int(months[-1][2]), 1)
    years = list(_YEAR.finditer(text))
    return date(int(years[-1][1]), 1, 1) if years else None


def shown(scene: object) -> str:
    """Return what messages call a scene."""
    return display_name(scene) if isinstance(scene, str | Path) else str(getattr(scene, "name", type(scene).__name__))


def _date_of(scene: object) -> date:
    name = scene if isinstance(scene, str | Path) else getattr(scene, "name", "")
    day = date_in(Path(str(name)).name) or _tagged(scene)
    if day is None:
        raise SourceError(f"{shown(scene)} has no date in its name or its tags; {_EXAMPLE}")
    return day


def _tagged(scene: object) -> date | None:
    """The date in the tags of a scene's first raster."""
    tags = tags_of(files_of(scene))
    days = (date_in(tags.get(name, "").replace(":", "-")) for name in _TAGS)
    return next((day for day in days if day is not None), None)
