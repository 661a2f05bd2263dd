from __future__ import annotations

from datetime import date

import pytest

from hybridseg.errors import SourceError
from hybridseg.tracking.dates import date_in, dates_of, parse_date
from tests.tracking.places import write


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("m_4709963_se_14_1_20090818.tif", date(2009, 8, 18)),
        ("S2A_20230615T101031_T32.tif", date(2023, 6, 15)),
        ("town_2012-07.tif", date(2012, 7, 1)),
        ("1985.tif", date(1985, 1, 1)),
        ("place_2019.06.30_v2.tif", date(2019, 6, 30)),
        ("row_2019_45_99_of_2020-05-01.tif", date(2020, 5, 1)),
        ("tile_20230231.tif", None),
        ("tile_123456789.tif", None),
        ("scene.tif", None),
    ],
)
def test_dates_in_names(text, day):
    assert date_in(text) == day


def test_said_dates_count_before_names():
    assert dates_of(["a_2001.tif", "b_2002.tif"], "2011,2012-03-04") == [date(2011, 1, 1), date(2012, 3, 4)]


def test_tags_tell_where_names_do_not(tmp_path):
    import rasterio

    path = write(tmp_path / "scene.tif", [])
    with rasterio.open(path, "r+") as file:
        file.update_tags(TIFFTAG_DATETIME="2014:07:20 10:00:00")
    assert dates_of([path]) == [date(2014, 7, 20)]


@pytest.mark.parametrize(
    ("scenes", "said", "words"),
    [
        (["a.tif", "b_2002.tif"], None, "a.tif has no date in its name or its tags"),
        (["a_2002.tif", "b_2002.tif"], None, "have one date, 2002-01-01"),
        (["a.tif", "b.tif"], "2001", "1 dates came with 2 scenes"),
        (["a.tif", "b.tif"], "2001,spring", "'spring' is no date"),
        (["2019-13-45.tif", "b_2020.tif"], None, "'2019-13-45.tif' holds 2019-13-45, a date that does not exist"),
        (["a.tif", "b_2020.tif"], "2019-02-31,2020", "holds 2019-02-31, a date that does not exist"),
    ],
)
def test_dates_that_cannot_be_meant(scenes, said, words):
    with pytest.raises(SourceError, match=words):
        dates_of(scenes, said)


def test_a_date_is_no_part_of_other_words():
    with pytest.raises(SourceError, match="is no date"):
        parse_date("in 2009")
