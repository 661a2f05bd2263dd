"""The command line. Each verb is a Python function; its signature and docstring are its flags and help.

Verbs are imported here, when they are called: `hybridseg --help` waits for none of them.
"""

from __future__ import annotations

import errno
import functools
import gc
import importlib
import inspect
import os
import re
import signal
import sys
import traceback
import warnings
from argparse import SUPPRESS, Action
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import NoneType
from typing import Any, NoReturn, Optional, get_args, get_type_hints

from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace

from hybridseg import __version__
from hybridseg.cli.verbs import INCOMPLETE, OK, VERBS, Verb, overview
from hybridseg.errors import HybridsegError, HybridsegWarning
from hybridseg.run.progress import KINDS, Reporter, reporter

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


__all__ = ["BAD_INPUT", "FAULT", "INCOMPLETE", "INTERRUPTED", "OK", "VERBS", "command", "main"]

FULL = {errno.ENOSPC, errno.EDQUOT}
"""Numbers of the system's errors where a disk, or a user's part of it, is full."""
BAD_INPUT, FAULT, INTERRUPTED = 2, 3, 130
"""Exit statuses beside `OK` and `INCOMPLETE`: nothing done; a fault of ours; stopped by Ctrl-C."""


def command() -> NoReturn:
    """Run as a process of its own, where Python looks for garbage less often, and not at the end.

    Imports and networks are a million values that stay. To look through them time and again is a fifth of the processor
    time of a small run; at the end all of the memory goes back anyway.
    """
    gc.set_threshold(10_000)
    status = main()
    if sys.version_info < (3, 12):  # there Python, as it ends, would print "Error in sys.excepthook"
        gc.freeze()
    sys.exit(status)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if not arguments or arguments in (["-h"], ["--help"]):
        sys.stdout.write(overview())
        return OK
    with _signals() as came, reporter(arguments) as said:
        status = _run(arguments, said, came)
        said.end(status)
    return status


def _run(arguments: Sequence[str], said: Reporter, came: Sequence[int]) -> int:
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn(said)
            return _verb(arguments, said)
    except HybridsegError as error:
        said.say(str(error), "error")
        return BAD_INPUT
    except KeyboardInterrupt:
        return _stopped(said, came)
    except BrokenPipeError:  # whoever reads our output has seen enough; Python would complain once more when it flushes
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except Exception as error:
        # an extension module that a signal stops while it is imported says ImportError, and no more
        if came:
            return _stopped(said, came)
        if isinstance(error, OSError) and error.errno in FULL:
            where = f" at {error.filename}" if error.filename else ""
            said.say(f"the disk is full{where}: make room, or name a folder for temporary files by TMPDIR", "error")
            return BAD_INPUT
        return _fault(error, said)


def _verb(arguments: Sequence[str], said: Reporter) -> int:
    """Import the verb, parse its settings, call it and show what it gives."""
    wanted = next((word for word in arguments if word in VERBS), None)
    if wanted is not None and not {"-h", "--help"} & set(arguments):
        said.start("load", None, "")
    function = getattr(importlib.import_module(VERBS[wanted].module), wanted) if wanted else None
    from hybridseg.cli import parse  # after the first sign of life

    verb, settings = parse(arguments, wanted, function)
    with _gdal_in_our_words():
        status = VERBS[verb].show(function, settings, said)  # type: ignore[arg-type]
    sys.stdout.flush()  # here, where a closed pipe is expected
    return status


@contextmanager
def _gdal_in_our_words() -> Iterator[None]:
    """Keep GDAL's own warnings from standard error: what matters of them is said by errors and warnings of ours."""
    import rasterio

    with rasterio.Env():
        yield


@contextmanager
def _signals() -> Iterator[list[int]]:
    """End on SIGTERM and Ctrl-C as on an exception, so that temporary files go; give the signals that came."""
    came: list[int] = []

    def stop(number: int, _: object) -> NoReturn:
        came.append(number)
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    # a shell starts what runs in the background with Ctrl-C ignored
    mine = [number for number, handler in before.items() if handler != signal.SIG_IGN]
    for number in mine:
        signal.signal(number, stop)
    try:
        yield came
    finally:
        for number in mine:
            signal.signal(number, before[number])


def _stopped(said: Reporter, came: Sequence[int]) -> int:
    """Say that the run was stopped; returns the status that shells expect: 128 and the signal's number."""
    said.say("stopped; nothing half written is left", "error")
    return 128 + came[0] if came else INTERRUPTED


def _fault(error: Exception, said: Reporter) -> int:
    """Say in one line that this is our fault, and how to report it."""
    if os.environ.get("HYBRIDSEG_DEBUG"):
        traceback.print_exception(error)
    what = " ".join(f"{type(error).__name__}: {error}".split())[:300].rstrip(":")
    said.say(
        f"a fault of hybridseg itself: {what}; run it again with HYBRIDSEG_DEBUG=1 in the environment and "
        "report what it prints",
        "error",
    )
    return FAULT


def _warn(said: Reporter) -> Any:
    """What shows our own warnings in one line, others as Python does."""

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, HybridsegWarning):
            said.say(str(message), "warning")
        else:
            with suppress(OSError):
                sys.stderr.write(warnings.formatwarning(message, category, *where[:2]))

    return show
