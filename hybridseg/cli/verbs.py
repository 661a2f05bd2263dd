"""The verbs: where each lives, what it is for, an example, and how its result is shown."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybridseg.run.progress import Reporter

if TYPE_CHECKING:
    from jsonargparse import Namespace

OK, INCOMPLETE = 0, 1
"""Exit statuses: all done; done but for the windows and objects listed."""


@dataclass(frozen=True)
class Verb:
    """A verb of the command line.

    module: where the function of the verb's name lives.
    about: one line for the list of verbs.
    examples: commands for the help, the first also for the list of verbs.
    show: calls the function with the parsed settings, prints the result, returns the exit status.
    """

    module: str
    about: str
    examples: tuple[str, ...]
    show: Callable[[Callable[..., Any], Namespace, Reporter], int]


def overview() -> str:
    """Return what `hybridseg` alone says: every verb with an example."""
    verbs = [f"  {name:<9} {verb.about}\n            $ {verb.examples[0]}\n" for name, verb in VERBS.items()]
    return (
        "Overhead imagery to labelled maps.\n\nusage: hybridseg VERB [arguments and flags]\n\n"
        + "\n".join(verbs)
        + "\nhybridseg VERB --help     all flags of a verb\nhybridseg --version\n"
    )


def _extract(extract: Callable[..., Any], settings: Namespace, said: Reporter) -> int:
    as_json = settings.pop("json")
    result = extract(**settings.as_dict(), progress=said)
    _show(as_json, result.summary.to_dict(), result.summary.lines())
    return INCOMPLETE if result.summary.failures else OK


def _demo(demo: Callable[..., Any], settings: Namespace, said: Reporter) -> int:
    as_json = settings.pop("json")
    outcome = demo(**settings.as_dict(), progress=said)
    _show(as_json, outcome.to_dict(), outcome.summary.lines(), outcome.lines())
    return OK


def _train(train: Callable[..., Any], settings: Namespace, _: Reporter) -> int:
    folder: Path = train(**settings.as_dict())
    sys.stdout.write(f"{folder}\n")
    return OK


def _tune(tune: Callable[..., Any], settings: Namespace, said: Reporter) -> int:
    path = tune(**settings.as_dict(), progress=said)
    sys.stdout.write(path.read_text())
    _table([("written", str(path)), ("use it", f"hybridseg extract SCENE map.gpkg --theme {path}")])
    return OK


def _finetune(finetune: Callable[..., Any], settings: Namespace, said: Reporter) -> int:
    as_json = settings.pop("json")
    settings.quiet = settings.quiet or as_json  # Lightning's bar goes to standard output
    made = finetune(**settings.as_dict(), progress=None if settings.quiet else said)
    _show(as_json, made.card, made.lines())
    return OK


def _review(review: Callable[..., Any], settings: Namespace, said: Reporter) -> int:
    as_json = settings.pop("json")
    count = review(**settings.as_dict(), ready=partial(_address, as_json=as_json), progress=said)
    if settings.export is not None:
        written = {"written": str(settings.export), "features": count}
        _show(as_json, written, [(name, str(value)) for name, value in written.items()])
    return OK


def _serve(serve: Callable[..., Any], settings: Namespace, said: Reporter) -> int:
    as_json = settings.pop("json")
    serve(**settings.as_dict(), ready=partial(_address, as_json=as_json), progress=said)
    return OK


def _address(address: Any, as_json: bool) -> None:
    """Say at once where a server is: a program that started it waits for the line."""
    line = json.dumps(address.to_dict()) if as_json else f"{address.link}  (Ctrl-C ends it)"
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _models(models: Callable[..., Any], settings: Namespace, _: Reporter) -> int:
    as_json = settings.pop("json")
    cards = models(**settings.as_dict())
    if settings.name is not None and not as_json:
        import yaml

        sys.stdout.write(yaml.safe_dump(cards[0].to_dict(), sort_keys=False, allow_unicode=True, width=100))
    else:
        _show(as_json, [card.to_dict() for card in cards], [(card.name, card.line()) for card in cards])
    return OK


def _evaluate(evaluate: Callable[..., Any], settings: Namespace, _: Reporter) -> int:
    as_json = settings.pop("json")
    report = evaluate(**settings.as_dict())
    _show(as_json, report.to_dict(), report.rows())
    return OK


def _show(as_json: bool, plain: Any, *tables: list[tuple[str, str]]) -> None:
    """Print plain values as one JSON object, or tables for a person."""
    if as_json:
        sys.stdout.write(json.dumps(plain, default=str) + "\n")
        return
    for rows in tables:
        _table(rows)


def _table(rows: list[tuple[str, str]]) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    table = Table("what", Column("how much", overflow="fold"), show_header=False, box=None)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


VERBS: dict[str, Verb] = {
    "extract": Verb(
        "hybridseg.run.extract",
        "Find every object of a theme in a raster and write labelled, georeferenced polygons.",
        (
            "hybridseg extract scene.tif map.gpkg --theme buildings",
            "hybridseg extract scene.tif roads.gpkg --theme roads --as lines",
            "hybridseg extract scene.tif map.parquet --theme buildings,water --extent 512345,5240100,512845,5240600",
        ),
        _extract,
    ),
    "track": Verb(
        "hybridseg.tracking.run",
        "Follow objects through scenes of one place: what stayed, appeared, vanished, grew or shrank, in m2.",
        (
            "hybridseg track 2009.tif 2012.tif 2016.tif ponds.gpkg --theme water --report ponds.html",
            "hybridseg track scenes/ ponds.gpkg --theme water --run run",
            "hybridseg track 'https://HOST/search?collections=...&bbox=...&datetime=2015/2020' map.gpkg --theme water",
            "hybridseg track 2024.tif now.gpkg --theme buildings --layer cadastre_2019.gpkg",
        ),
        _extract,
    ),
    "demo": Verb(
        "hybridseg.demo",
        "Map the buildings of a rendered town whose truth is known, and draw the result.",
        ("hybridseg demo",),
        _demo,
    ),
    "evaluate": Verb(
        "hybridseg.evaluation",
        "Compare a map with a reference, whoever made them.",
        (
            "hybridseg evaluate map.gpkg truth.gpkg --html report.html",
            "hybridseg evaluate --compare before.gpkg after.gpkg truth.gpkg",
        ),
        _evaluate,
    ),
    "review": Verb(
        "hybridseg.reviewing.verbs",
        "Open a page where a person checks and corrects a map by clicking; every decision is saved at once.",
        (
            "hybridseg review scene.tif map.gpkg",
            "hybridseg review scene.tif map.gpkg --export reviewed.gpkg",
            "hybridseg review scene.tif --layer osm.gpkg --export diff.gpkg --difference",
        ),
        _review,
    ),
    "serve": Verb(
        "hybridseg.reviewing.verbs",
        "Serve a review without the page, for another program such as a plug-in of a desktop GIS.",
        ("hybridseg serve scene.tif map.gpkg --json",),
        _serve,
    ),
    "finetune": Verb(
        "hybridseg.finetuning.run",
        "Train a classifier on your own labels, and make a model folder of it for `extract --model`.",
        ("hybridseg finetune --scene scene.tif --labels labels.gpkg --theme buildings --out mine",),
        _finetune,
    ),
    "tune": Verb(
        "hybridseg.search",
        "Find a theme's thresholds, prompts and gate on labelled scenes, and write them as a theme's YAML.",
        ("hybridseg tune buildings mine.yaml --scene scene.tif --labels labels.gpkg",),
        _tune,
    ),
    "models": Verb(
        "hybridseg.run.models",
        "Show the cards of the models, and the licences of what is fetched.",
        ("hybridseg models", "hybridseg models buildings-lite0"),
        _models,
    ),
    "train": Verb(
        "hybridseg.training.run",
        "Train a model by a recipe; goes on where an earlier run of the same recipe stopped.",
        ("hybridseg train configs/recipes/buildings-lite0.yaml --data tiles.csv",),
        _train,
    ),
}
