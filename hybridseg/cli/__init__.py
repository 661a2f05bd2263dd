"""The command line. Each verb is a Python function; its signature and docstring are its flags and help.

Verbs are imported here, when they are called: `hybridseg --help` waits for none of them.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

from hybridseg.cli.verbs import INCOMPLETE, OK, VERBS, overview
from hybridseg.errors import HybridsegError, HybridsegWarning
from hybridseg.run.progress import Reporter, reporter

__all__ = ["BAD_INPUT", "FAULT", "INCOMPLETE", "INTERRUPTED", "OK", "VERBS", "main"]

BAD_INPUT, FAULT, INTERRUPTED = 2, 3, 130
"""Exit statuses beside `OK` and `INCOMPLETE`: nothing done; a fault of ours; stopped by Ctrl-C."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if not arguments or arguments in (["-h"], ["--help"]):
        sys.stdout.write(overview())
        return OK
    with _until_terminated(), reporter(arguments) as said:
        status = _run(arguments, said)
        said.end(status)
    return status


def _run(arguments: Sequence[str], said: Reporter) -> int:
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn(said)
            return _verb(arguments, said)
    except HybridsegError as error:
        said.say(str(error), "error")
        return BAD_INPUT
    except KeyboardInterrupt:
        said.say("stopped; nothing half written is left", "error")
        return INTERRUPTED
    except BrokenPipeError:  # whoever reads our output has seen enough; Python would complain once more when it flushes
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except Exception as error:
        return _fault(error, said)


def _verb(arguments: Sequence[str], said: Reporter) -> int:
    """Import the verb, parse its settings, call it and show what it gives."""
    wanted = next((word for word in arguments if word in VERBS), None)
    if wanted is not None and not {"-h", "--help"} & set(arguments):
        said.start("load", None, "")
    function = getattr(importlib.import_module(VERBS[wanted].module), wanted) if wanted else None
    from hybridseg.cli.parser import parse  # after the first sign of life

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
def _until_terminated() -> Iterator[None]:
    """End on SIGTERM as on an exception, so that temporary files go."""
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, _: object) -> NoReturn:
    raise SystemExit(128 + number)


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
