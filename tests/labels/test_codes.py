"""What labels call the classes."""

from __future__ import annotations

import pandas as pd
import pytest

from hybridseg.errors import ThemeError
from hybridseg.labels.codes import as_typed, parse_classes


def test_names_of_classes():
    assert parse_classes(None, ["building"], None) == {"building": None}
    assert parse_classes(None, ["building", "road"], "kind") == {"building": "building", "road": "road"}
    assert parse_classes("road=2, building=1", ["building", "road"], None) == {"building": "1", "road": "2"}
    with pytest.raises(ThemeError, match="building=1,road=2"):
        parse_classes(None, ["building", "road"], None)
    with pytest.raises(ThemeError, match="the themes' classes are building"):
        parse_classes("house=1", ["building"], None)


@pytest.mark.parametrize(
    ("text", "message"), [("a=1,a=2,b=3", "each once"), ("a=1,b=1", "one value to two"), ("a=1", "each once")]
)
def test_classes_given_twice(text: str, message: str):
    with pytest.raises(ThemeError, match=message):
        parse_classes(text, ["a", "b"], "kind")


def test_codes_of_many_digits_stay_apart():
    assert as_typed(pd.Series([10000000, 10000001])).tolist() == ["10000000", "10000001"]
    assert as_typed(pd.Series([2.0, 2.5])).tolist() == ["2", "2.5"]
    assert as_typed(pd.Series(["nan", None], dtype=object)).isna().tolist() == [False, True]
