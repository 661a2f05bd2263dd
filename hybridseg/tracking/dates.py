"""Which scenes a user gives, and when they were taken: said by STAC, the user, names of files, or tags."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from hybridseg.errors import SourceError
from hybridseg.read.items import Item, items_of
from hybridseg.read.opening import files_of
from hybridseg.read.part import tags_of
from hybridseg.read.paths import display_name
from hybridseg.read.sources import raster_files
from hybridseg.run.request import words

_WHOLE = re.compile(r"(?<!\d)((?:19|20)\d\d)([-_.]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])(?:(?=T\d)|(?!\d))")
_LIKE_WHOLE = re.compile(r"(?<!\d)(?:19|20)\d\d([-_.])\d\d\1\d\d(?:(?=T\d)|(?!\d))")
_MONTH = re.compile(r"(?<!\d)((?:19|20)\d\d)[-_.](0[1-9]|1[0-2])(?!\d)")
_YEAR = re.compile(r"(?<!\d)((?:19|20)\d\d)(?!\d)")
_TAGS = ("TIFFTAG_DATETIME", "ACQUISITION_DATE", "ACQUISITIONDATETIME", "DATE_ACQUIRED", "acquired", "datetime")
"""Tags that tell when a scene was taken, or at least when its file was made. EXIF has colons in its dates."""
_EXAMPLE = "give --dates with one date a scene, e.g. --dates 2009-08-18,2012-07-31 (a year alone will do)"
_TOO_FEW = "give two or more dates, or --layer with what was there before"


def dated_scenes(
    scenes: Sequence[Any] | str | Path, said: str | Sequence[str] | None = None, one_is_enough: bool = False
) -> tuple[list[Any], list[date]]:
    """Return the scenes, one a date, and their dates.

    Args:
        scenes: of one date each; or one source of several rasters, of which each is a date; or one of STAC items, of
            which those of a day are the tiles of one scene.
        said: dates that count, as of `dates_of`; not for STAC items alone.
        one_is_enough: whether one date may come alone.

    Raises:
        SourceError: there are too few dates, or one cannot be told.
    """
    given = [scenes] if isinstance(scenes, str | Path) else list(scenes)
    if len(given) == 1 and isinstance(given[0], str | Path):
        if (items := items_of(str(given[0]))) is not None:
            name = display_name(given[0])
            if said is not None:
                raise SourceError(f"--dates came with {name}, whose items state theirs; leave out --dates")
            by_day: dict[date, list[Item]] = {}
            for item in items:
                by_day.setdefault(item.day, []).append(item)
            days = sorted(by_day)
            if len(days) < 2 and not one_is_enough:
                raise SourceError(f"all items of {name} are of one day, {days[0]}; {_TOO_FEW}")
            return [[item.raster for item in by_day[day]] for day in days], days
        given = list(raster_files(given[0]))
    if len(given) < 2 and not one_is_enough:
        raise SourceError(f"{len(given)} scene came; {_TOO_FEW}")
    return given, dates_of(given, said)


def dates_of(scenes: Sequence[object], said: str | Sequence[str] | None = None) -> list[date]:
    """Return the date of each scene; of a year or a month alone, or of STAC items of several, the first day.

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
        names = [scene_name(scene) for scene, day in zip(scenes, found, strict=True) if day == doubled[0]]
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


def scene_name(scene: object) -> str:
    """Return what messages call a scene."""
    return display_name(scene) if isinstance(scene, str | Path) else str(getattr(scene, "name", type(scene).__name__))


def _date_of(scene: object) -> date:
    if isinstance(scene, str | Path) and (items := items_of(str(scene))) is not None:
        return min(item.day for item in items)
    name = scene if isinstance(scene, str | Path) else getattr(scene, "name", "")
    day = date_in(Path(str(name)).name) or _tagged(scene)
    if day is None:
        raise SourceError(f"{scene_name(scene)} has no date in its name or its tags; {_EXAMPLE}")
    return day


def _tagged(scene: object) -> date | None:
    """The date in the tags of a scene's first raster."""
    tags = tags_of(files_of(scene))
    days = (date_in(tags.get(name, "").replace(":", "-")) for name in _TAGS)
    return next((day for day in days if day is not None), None)
