"""The search that made configs/themes: `hybridseg tune` on the places kept from training.

python -m benchmarks.tune [DATA [THEME ...]]      writes configs/themes/<theme>.yaml
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks.places import places
from hybridseg.folders import configs_folder
from hybridseg.search import search_theme, write_theme
from hybridseg.theme import load_theme


def main(data: Path, themes: list[str]) -> None:
    """Search, theme by theme."""
    with tempfile.TemporaryDirectory() as folder:
        every = places(data, Path(folder))
        for name in themes:
            mine = [place for place in every if place.theme == name]
            best, report = search_theme(load_theme(name), mine, "sam2-lite")
            comment = f"By `python -m benchmarks.tune`, on {'; '.join(p.name for p in mine)}: {report}"
            print(write_theme(best, configs_folder() / "themes" / f"{name}.yaml", comment), report, flush=True)


if __name__ == "__main__":
    arguments = sys.argv[1:] or ["../shared/data"]
    main(Path(arguments[0]), arguments[1:] or ["buildings", "fields", "roads", "solar", "water"])
