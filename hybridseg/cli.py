"""The command line. Each verb is a Python function; its signature and docstring are its flags and help.

Verbs are imported here, when they are called: `hybridseg --help` waits for none of them.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import os
import re
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, get_args

import yaml
from jsonargparse import ArgumentParser, Namespace
from rich.console import Console
from rich.table import Column, Table

from hybridseg import __version__
from hybridseg.errors import HybridsegError, HybridsegWarning
from hybridseg.run.progress import Bars

OK, INCOMPLETE, BAD_INPUT, FAULT, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit statuses: all done; done but for the windows listed; nothing done; a fault of ours; stopped by Ctrl-C."""


@dataclass(frozen=True)
class Verb:
    """A verb of the command line.

    module: where the function of the verb's name lives.
    about: one line for the list of verbs.
    show: calls the function with the parsed settings, prints the result, returns the exit status.
    """

    module: str
    about: str
    show: Callable[[Callable[..., Any], Namespace, bool], int]


def main(arguments: list[str] | None = None) -> int:
    """Run a verb; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    wanted = next((word for word in arguments if word in VERBS), None)
    function = getattr(importlib.import_module(VERBS[wanted].module), wanted) if wanted else None
    chosen = _parser(wanted, function).parse_args(arguments)
    settings = chosen[chosen.subcommand]
    as_json = settings.pop("json", False)
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            return VERBS[chosen.subcommand].show(function, settings, as_json)  # type: ignore[arg-type]
    except HybridsegError as error:
        sys.stderr.write(f"hybridseg: {error}\n")
        return BAD_INPUT
    except KeyboardInterrupt:
        sys.stderr.write("hybridseg: stopped; nothing half written is left\n")
        return INTERRUPTED
    except Exception as error:
        return _fault(error)
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, _: object) -> NoReturn:
    """End as an exception does, so that temporary files go."""
    raise SystemExit(128 + number)


def _fault(error: Exception) -> int:
    """Say in one line that this is our fault, and how to report it."""
    if os.environ.get("HYBRIDSEG_DEBUG"):
        traceback.print_exception(error)
    what = " ".join(f"{type(error).__name__}: {error}".split())[:300].rstrip(":")
    sys.stderr.write(
        f"hybridseg: a fault of hybridseg itself: {what}; run it again with HYBRIDSEG_DEBUG=1 in the environment and "
        "report what it prints\n"
    )
    return FAULT


def _show_warning(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
    """Show our own warnings in one line, others as Python does."""
    own = issubclass(category, HybridsegWarning)
    sys.stderr.write(f"hybridseg: {message}\n" if own else warnings.formatwarning(message, category, *where[:2]))


def _parser(wanted: str | None, function: Callable[..., Any] | None) -> ArgumentParser:
    """The parser: with the flags of the wanted verb, and the names of the others."""
    parser = ArgumentParser(prog="hybridseg", description="Overhead imagery to labelled maps.", version=__version__)
    verbs = parser.add_subcommands(dest="subcommand", metavar="VERB")
    for name, verb in VERBS.items():
        sub = ArgumentParser(description=verb.about)
        if name == wanted and function is not None:
            parsed = _required(function, "out") if name == "extract" else function
            sub.add_function_arguments(parsed, skip={"progress", "name"}, as_positional=True)
            if name == "models":  # signatures give no optional positional
                sub.add_argument("name", nargs="?", help="one model, or the path of a model folder: its whole card")
            if name not in ("train", "tune"):
                sub.add_argument("--json", action="store_true", help="print the summary as one JSON object")
            _take_several(sub)
            _dash(sub)
        verbs.add_subcommand(name, sub, help=verb.about)
    return parser


def _required(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The function with one parameter made obligatory: from Python a result may stay in memory, a command writes it."""

    @functools.wraps(function)
    def command(*given: Any, **named: Any) -> Any:
        return function(*given, **named)

    signature = inspect.signature(function)
    parameters = [p.replace(default=p.empty) if p.name == name else p for p in signature.parameters.values()]
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return command


def _take_several(verb: ArgumentParser) -> None:
    """Let flags whose parameter is a path or several take several: `--scene a.tif b.tif`."""
    for action in verb._actions:
        if Sequence[str | Path] in get_args(getattr(action, "_typehint", None)):
            action.nargs, action.metavar = "+", action.dest.upper()
            action._typehint = str  # type: ignore[attr-defined]
        if getattr(action, "_typehint", None) is bool:  # `--retry-failed` alone means true
            action.nargs, action.const = "?", True


def _dash(verb: ArgumentParser) -> None:
    """Show and take `--keep-work` where the signature says keep_work; the underscored form is taken too."""
    for action in verb._actions:
        # a parameter named as a word of Python's ends in an underscore: as_
        action.option_strings = [option.rstrip("_").replace("_", "-") for option in action.option_strings]
        verb._option_string_actions.update(dict.fromkeys(action.option_strings, action))
    # argparse takes -71.2,42.1,... for an option; western longitudes are not
    verb._negative_number_matcher = re.compile(r"^-\.?\d")


def _extract(extract: Callable[..., Any], settings: Namespace, as_json: bool) -> int:
    with Bars() as bars:
        result = extract(**settings.as_dict(), progress=bars)
    _show(result.summary, as_json)
    return INCOMPLETE if result.summary.failures else OK


def _demo(demo: Callable[..., Any], settings: Namespace, as_json: bool) -> int:
    with Bars() as bars:
        outcome = demo(**settings.as_dict(), progress=bars)
    if as_json:
        sys.stdout.write(json.dumps(outcome.to_dict()) + "\n")
    else:
        _show(outcome.summary, as_json=False)
        _table(outcome.lines())
    return OK


def _train(train: Callable[..., Any], settings: Namespace, _: bool) -> int:
    folder: Path = train(**settings.as_dict())
    sys.stdout.write(f"{folder}\n")
    return OK


def _tune(tune: Callable[..., Any], settings: Namespace, _: bool) -> int:
    with Bars() as bars:
        path = tune(**settings.as_dict(), progress=bars)
    sys.stdout.write(path.read_text())
    _table([("written", str(path)), ("use it", f"hybridseg extract SCENE map.gpkg --theme {path}")])
    return OK


def _finetune(finetune: Callable[..., Any], settings: Namespace, as_json: bool) -> int:
    with Bars() as bars:
        settings.quiet = settings.quiet or as_json  # Lightning's bar goes to standard output
        made = finetune(**settings.as_dict(), progress=None if settings.quiet else bars)
    if as_json:
        sys.stdout.write(json.dumps(made.card, default=str) + "\n")
    else:
        _table(made.lines())
    return OK


def _models(models: Callable[..., Any], settings: Namespace, as_json: bool) -> int:
    cards = models(**settings.as_dict())
    if as_json:
        sys.stdout.write(json.dumps([card.to_dict() for card in cards], default=str) + "\n")
    elif settings.name is not None:
        sys.stdout.write(yaml.safe_dump(cards[0].to_dict(), sort_keys=False, allow_unicode=True, width=100))
    else:
        _table([(card.name, card.line()) for card in cards])
    return OK


def _evaluate(evaluate: Callable[..., Any], settings: Namespace, as_json: bool) -> int:
    report = evaluate(**settings.as_dict())
    if as_json:
        sys.stdout.write(json.dumps(report.to_dict()) + "\n")
    else:
        _table(report.rows())
    return OK


def _show(summary: Any, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(summary.to_dict()) + "\n")
    else:
        _table(summary.lines())


def _table(rows: list[tuple[str, str]]) -> None:
    table = Table("what", Column("how much", overflow="fold"), show_header=False, box=None)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


VERBS: dict[str, Verb] = {
    "extract": Verb(
        "hybridseg.run.extract",
        "Find every object of a theme in a raster and write labelled, georeferenced polygons.",
        _extract,
    ),
    "demo": Verb(
        "hybridseg.demo", "Map the buildings of a rendered town whose truth is known, and draw the result.", _demo
    ),
    "train": Verb(
        "hybridseg.training.run",
        "Train a model by a recipe; goes on where an earlier run of the same recipe stopped.",
        _train,
    ),
    "finetune": Verb(
        "hybridseg.finetuning.run",
        "Train a classifier on your own labels, and make a model folder of it for `extract --model`.",
        _finetune,
    ),
    "tune": Verb(
        "hybridseg.tuning",
        "Find a theme's thresholds, prompts and gate on labelled scenes, and write them as a theme's YAML.",
        _tune,
    ),
    "evaluate": Verb("hybridseg.evaluation", "Compare a map with a reference, whoever made them.", _evaluate),
    "models": Verb(
        "hybridseg.run.models", "Show the cards of the models, and the licences of what is fetched.", _models
    ),
}
