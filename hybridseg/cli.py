"""The command line. Each verb is a Python function; its signature and docstring are its flags and help."""

from __future__ import annotations

import json
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace
from rich.console import Console
from rich.table import Column, Table

from hybridseg.demo import demo
from hybridseg.errors import HybridsegError
from hybridseg.evaluate.verb import evaluate
from hybridseg.evaluate.verb import lines as figures
from hybridseg.finetune.layers import LabelsWarning
from hybridseg.finetune.report import lines as made
from hybridseg.finetune.run import finetune
from hybridseg.run.cards import models, one_line
from hybridseg.run.extract import extract
from hybridseg.run.progress import Bars
from hybridseg.run.summary import Summary
from hybridseg.train.run import train
from hybridseg.tune.run import tune

OK, INCOMPLETE, BAD_INPUT = 0, 1, 2
"""Exit statuses: all done; done but for the windows listed; nothing done."""


def main(arguments: list[str] | None = None) -> int:
    """Run a verb; returns the exit status."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    settings = chosen[chosen.subcommand]
    as_json = settings.pop("json", False)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            return VERBS[chosen.subcommand][1](settings, as_json)
    except HybridsegError as error:
        sys.stderr.write(f"hybridseg: {error}\n")
        return BAD_INPUT


def _show_warning(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
    """What was done to labels in one line; other warnings as Python shows them."""
    own = issubclass(category, LabelsWarning)
    sys.stderr.write(f"hybridseg: {message}\n" if own else warnings.formatwarning(message, category, *where[:2]))


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="hybridseg", description="Overhead imagery to labelled maps.", version=_version())
    verbs = parser.add_subcommands(dest="subcommand", metavar="VERB")
    for function, _ in VERBS.values():
        verb = ArgumentParser(description=(function.__doc__ or "").splitlines()[0])
        verb.add_function_arguments(function, skip={"progress", "name"}, as_positional=True)
        if function is models:  # signatures give no optional positional
            verb.add_argument("name", nargs="?", help="one model, or the path of a model folder: its whole card")
        if function not in (train, tune):
            verb.add_argument("--json", action="store_true", help="print the summary as one JSON object")
        _dash(verb)
        verbs.add_subcommand(function.__name__, verb, help=(function.__doc__ or "").splitlines()[0])
    return parser


def _dash(verb: ArgumentParser) -> None:
    """Show and take `--keep-work` where the signature says keep_work; the underscored form is taken too."""
    for action in verb._actions:
        # a parameter named as a word of Python's ends in an underscore: as_
        action.option_strings = [option.rstrip("_").replace("_", "-") for option in action.option_strings]
        verb._option_string_actions.update(dict.fromkeys(action.option_strings, action))
    # argparse takes -71.2,42.1,... for an option; western longitudes are not
    verb._negative_number_matcher = re.compile(r"^-\.?\d")


def _version() -> str:
    from hybridseg import __version__

    return __version__


def _extract(settings: Namespace, as_json: bool) -> int:
    with Bars() as bars:
        features = extract(**settings.as_dict(), progress=bars)
    summary: Summary = features.attrs["summary"]
    _show(summary, as_json)
    return INCOMPLETE if summary.failures else OK


def _demo(settings: Namespace, as_json: bool) -> int:
    outcome = demo(**settings.as_dict())
    if as_json:
        sys.stdout.write(json.dumps(outcome.to_dict()) + "\n")
    else:
        _show(outcome.summary, as_json=False)
        _table(outcome.lines())
    return OK


def _train(settings: Namespace, _: bool) -> int:
    folder: Path = train(**settings.as_dict())
    sys.stdout.write(f"{folder}\n")
    return OK


def _tune(settings: Namespace, _: bool) -> int:
    with Bars() as bars:
        path = tune(**settings.as_dict(), progress=bars)
    sys.stdout.write(path.read_text())
    _table([("written", str(path)), ("use it", f"hybridseg extract SCENE map.gpkg --theme {path}")])
    return OK


def _finetune(settings: Namespace, as_json: bool) -> int:
    with Bars() as bars:
        settings.quiet = settings.quiet or as_json  # Lightning's bar goes to standard output
        folder = finetune(**settings.as_dict(), progress=None if settings.quiet else bars)
    card = models(str(folder))[0]
    if as_json:
        sys.stdout.write(json.dumps(card, default=str) + "\n")
    else:
        _table(made(card, folder))
    return OK


def _models(settings: Namespace, as_json: bool) -> int:
    cards = models(**settings.as_dict())
    if as_json:
        sys.stdout.write(json.dumps(cards, default=str) + "\n")
    elif settings.name is not None:
        sys.stdout.write(yaml.safe_dump(cards[0], sort_keys=False, allow_unicode=True, width=100))
    else:
        _table([(card["name"], one_line(card)) for card in cards])
    return OK


def _evaluate(settings: Namespace, as_json: bool) -> int:
    report = evaluate(**settings.as_dict())
    if as_json:
        sys.stdout.write(json.dumps(report.to_dict()) + "\n")
    else:
        _table(figures(report))
    return OK


def _show(summary: Summary, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(summary.to_dict()) + "\n")
    else:
        _table(summary.lines())


def _table(rows: list[tuple[str, str]]) -> None:
    table = Table("what", Column("how much", overflow="fold"), show_header=False, box=None)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


VERBS: dict[str, tuple[Callable[..., Any], Callable[[Namespace, bool], int]]] = {
    "extract": (extract, _extract),
    "demo": (demo, _demo),
    "train": (train, _train),
    "finetune": (finetune, _finetune),
    "tune": (tune, _tune),
    "evaluate": (evaluate, _evaluate),
    "models": (models, _models),
}
"""Each verb's function, whose signature gives the flags, and what the command line does with its result."""
