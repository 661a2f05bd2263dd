"""The parser of a verb, made of its function: parameters become arguments and flags, the docstring their help."""

from __future__ import annotations

import functools
import inspect
import re
from argparse import SUPPRESS, Action
from collections.abc import Callable, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, Optional, get_args, get_type_hints

from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace

from hybridseg import __version__
from hybridseg.cli.verbs import VERBS, Verb
from hybridseg.run.progress import KINDS

SEVERAL = Sequence[str | Path]
"""Type of parameters that take several words: `--scene a.tif b.tif`."""


_OPTIONAL = {
    "name": "one model, or the path of a model folder: its whole card",
    "result": "the map: what extract wrote, or any layer of polygons; without one the review begins with an empty map",
}
"""Positional words that may be left out, which signatures cannot say, with their help."""


PYTHON_ONLY = {"progress", "ready"}
"""Parameters that take what words cannot say. `progress` is a word here, too, of its own."""


class Formatter(DefaultHelpFormatter):
    """Help for people: what a flag does and its default, without types; examples as they are written."""

    def _get_help_string(self, action: Action) -> str:
        said = action.help or ""
        plain = not action.option_strings or action.default in (None, False, SUPPRESS) or "default" in said.lower()
        return said if plain else f"{said.rstrip('.')}; default: %(default)s."

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        kept = text.startswith("examples:")
        return (
            "\n".join(indent + line for line in text.splitlines()) if kept else super()._fill_text(text, width, indent)
        )


def parse(arguments: Sequence[str], wanted: str | None, function: Callable[..., Any] | None) -> tuple[str, Namespace]:
    """Return the verb and its settings.

    Args:
        arguments: the words of the command line.
        wanted: the verb among them, None where there is none: this says so and exits.
        function: of that verb.

    Raises:
        SystemExit: they cannot be understood (status 2, with the usage on standard error), or help was asked for.
    """
    parser = ArgumentParser(prog="hybridseg", version=__version__, formatter_class=Formatter)  # verbs inherit it
    verbs = parser.add_subcommands(dest="subcommand", metavar="VERB")
    for name, verb in VERBS.items():
        sub = _parser(name, verb, function) if name == wanted and function is not None else ArgumentParser()
        verbs.add_subcommand(name, sub, help=verb.about)
    chosen = parser.parse_args(list(arguments))
    settings: Namespace = chosen[chosen.subcommand]
    settings.pop("progress", None)  # `reporter` has looked at it
    return chosen.subcommand, settings


def _parser(name: str, verb: Verb, function: Callable[..., Any]) -> ArgumentParser:
    examples = "".join(f"\n  $ {example}" for example in verb.examples)
    parser = ArgumentParser(description=verb.about, epilog=f"examples:{examples}")
    command = _as_command(function, ("out",) if name in ("extract", "track") else ())
    parser.add_function_arguments(command, skip={*PYTHON_ONLY, *_OPTIONAL}, as_positional=True, as_group=False)
    for optional in _OPTIONAL.keys() & inspect.signature(function).parameters:
        parser.add_argument(optional, nargs="?", help=_OPTIONAL[optional])
    if name not in ("train", "tune"):
        parser.add_argument("--json", action="store_true", help="print the summary as one JSON object")
    parser.add_argument("--progress", choices=KINDS, default="auto", help=(
        "auto: bars on a terminal, elsewhere a line every half minute; json: one JSON object a line on standard error, "
        "warnings and errors, too; none"
    ))  # fmt: skip
    for action in parser._actions:
        _as_people_write(action)
        parser._option_string_actions.update(dict.fromkeys(action.option_strings, action))
    # argparse takes -71.2,42.1,... for an option; western longitudes are not
    parser._negative_number_matcher = re.compile(r"^-\.?\d")
    flags = (action for action in parser._actions if not action.option_strings)
    words = [action.dest.upper() if action.nargs != "?" else f"[{action.dest.upper()}]" for action in flags]
    obligatory = [a for a in parser._actions if a.option_strings and a.required]
    words += [f"{a.option_strings[0]} {a.metavar or a.dest.upper()}" for a in obligatory]
    parser.usage = f"hybridseg {' '.join([name, *words])} [flags]"
    return parser


def _as_command(function: Callable[..., Any], required: Sequence[str]) -> Callable[..., Any]:
    """The function with types as a command line has them, and with parameters that only Python may leave out."""

    @functools.wraps(function)
    def command(*given: Any, **named: Any) -> Any:
        return function(*given, **named)

    signature, hints = inspect.signature(function), get_type_hints(function)
    parameters = []
    for each in signature.parameters.values():
        word = _as_word(hints[each.name])
        changed = {"default": each.empty, "annotation": str} if each.name in required else {"annotation": word}
        parameters.append(each.replace(**changed))
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return command


def _as_word(hint: Any) -> Any:
    """One word where a parameter takes text among other things: paths, numbers with commas, names."""
    kinds = get_args(hint)
    if hint is Any:
        return str
    if str not in kinds or SEVERAL in kinds:
        return hint
    return Optional[str] if NoneType in kinds else str  # noqa: UP045  jsonargparse


def _as_people_write(action: Action) -> None:
    """Make `--retry-failed` of retry_failed, let yes-or-no flags stand alone, take several words where asked."""
    hint = getattr(action, "_typehint", None)
    if hint == SEVERAL or SEVERAL in get_args(hint):
        action.nargs, action.metavar = "+", action.dest.upper()
        action._typehint = str  # type: ignore[attr-defined]
    if hint is bool and action.option_strings:
        action.nargs, action.const, action.metavar = "?", True, "false" if action.default else "true"
    # a parameter named as a word of Python's ends in an underscore: as_
    options = (option for option in action.option_strings if not option.endswith("+"))
    action.option_strings = [option.rstrip("_").replace("_", "-") for option in options]
