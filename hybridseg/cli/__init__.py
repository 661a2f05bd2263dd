"""The command line. Each verb is a Python function; its signature and docstring are its flags and help.

Verbs are imported here, when they are called: `hybridseg --help` waits for none of them.
"""

from __future__ import annotations

import gc
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

__all__ = ["BAD_INPUT", "FAULT", "INCOMPLETE", "INTERRUPTED", "OK", "VERBS", "command", "main"]

BAD_INPUT, FAULT, INTERRUPTED = 2, 3, 130
"""Exit statuses beside `OK` and `INCOMPLETE`: nothing done; a fault of ours; stopped by Ctrl-C."""


def command() -> NoReturn:
    """Run as a process of its own, where Python looks for garbage less often, and not at the end.

    Imports and networks are a million values that stay. To look through them time and again is a fifth of the processor
    time of a small run; at the end all of the memory goes back anyway.
    """
    gc.set_threshold(10_000)
    status = main()
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
        return _stopped(said, came) if came else _fault(error, said)


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
