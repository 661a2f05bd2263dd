"""The pages of docs/: all are in the site, and name all that there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

import hybridseg
from hybridseg import nn
from hybridseg.write.lineage import COLUMNS
from hybridseg.write.schemas import SCHEMAS

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs"


def pages(nav: list) -> list[str]:
    entries = [value for entry in nav for value in entry.values()]
    return [page for each in entries for page in (pages(each) if isinstance(each, list) else [each])]


def test_every_page_is_in_the_site():
    listed = pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    assert sorted(listed) == sorted(path.name for path in PAGES.glob("*.md"))


def test_the_reference_has_every_public_name():
    text = (PAGES / "reference.md").read_text()
    shown = dict(re.findall(r"^::: (hybridseg\.\S+)\n +options: \{heading: hybridseg\.(\w+),", text, re.MULTILINE))
    assert sorted(shown.values()) == sorted(hybridseg.__all__)
    for path, name in shown.items():
        assert path == f"{getattr(hybridseg, name).__module__}.{name}"


def test_every_column_and_schema_is_explained():
    text = (PAGES / "files.md").read_text()
    assert [name for name in [*COLUMNS, *SCHEMAS] if f"`{name}`" not in text] == []


@pytest.mark.parametrize("source", nn.cards.SOURCES, ids=lambda source: source.name)
def test_the_licence_of_what_is_fetched_is_told(source: nn.cards.Source):
    rows = [line for line in (PAGES / "models.md").read_text().splitlines() if line.startswith("| `")]
    family = re.split(r"(?<=sam2-)|(?<=sam2\.1-)|\s", source.name)[0]
    assert any(f"`{family}" in row and source.licence in row for row in rows), source


def test_every_use_names_its_notebook_and_every_notebook_its_use():
    named = re.findall(r"notebooks/(\w+\.ipynb)", (PAGES / "uses.md").read_text())
    assert sorted(named) == sorted(path.name for path in (ROOT / "notebooks").glob("0[3-7]_*.ipynb"))
    assert len(named) == 5
