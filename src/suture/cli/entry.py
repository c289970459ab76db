"""The way into the command line and out of it: what went wrong becomes one line and an exit code."""

import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from suture.cli import console
from suture.cli.looking import app
from suture.errors import SutureError, SutureWarning

INTERNAL, INTERRUPTED, TERMINATED = 70, 130, 143
"""Exit codes: EX_SOFTWARE of sysexits.h, and what a shell reports after Ctrl-C and SIGTERM. Our errors carry their own."""


def main() -> None:
    """Run the command line; an error of ours prints its message and exits with its class's code, any other asks to be reported."""
    arguments, debug = _without_debug(sys.argv[1:])
    with warnings.catch_warnings(), _terminable():
        warnings.showwarning = _show_warning
        try:
            app(args=arguments)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        except SutureError as error:
            _show_traceback(debug)
            console.show_error(str(error))
            sys.exit(error.exit_code)
        except Exception as error:
            _show_traceback(debug)
            hint = "report it" if debug else "run again with --debug and report it"
            console.show_error(f"{type(error).__name__}: {' '.join(str(error).split())}; {hint}", kind="internal error")
            sys.exit(INTERNAL)


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does, by way of everything that clears up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _leave(*_: object) -> None:
    """End in good order: what is staged is cleared away, and processes of ours are told. To be told again would only break that off."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(TERMINATED)


def _without_debug(arguments: list[str]) -> tuple[list[str], bool]:
    """Take ``--debug`` out, wherever it stands before a ``--``."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options = [argument for argument in arguments[:end] if argument != "--debug"]
    return [*options, *arguments[end:]], len(options) < end


def _show_traceback(debug: bool) -> None:
    if debug:
        traceback.print_exc()


def _show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: TextIO | None = None, line: str | None = None
) -> None:
    """Show a warning of ours in one line, and others as Python does."""
    if issubclass(category, SutureWarning):
        console.show_warning(str(message))
    else:
        (file or sys.stderr).write(warnings.formatwarning(message, category, filename, lineno, line))
