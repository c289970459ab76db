"""The way into the command line and out of it: what went wrong becomes one line and an exit code."""

import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

import typer

from suture.cli import console
from suture.cli.looking import app
from suture.errors import SutureError, SutureWarning, UsageError

INTERNAL, INTERRUPTED, TOLD = 70, 130, 128
"""Exit codes: EX_SOFTWARE of sysexits.h, and what a shell reports after Ctrl-C and, with its number added, after any other signal.
Our errors carry their own."""
STOPPING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))

MISUSE: type[Exception] = typer.BadParameter.__mro__[1]
"""All that typer finds wrong with a command line: the class above that of bad values, which has no public name."""


def main() -> None:
    """Run the command line; an error of ours prints its message and exits with its class's code, any other asks to be reported."""
    arguments, debug = _without_debug(sys.argv[1:])
    with warnings.catch_warnings(), _terminable():
        warnings.showwarning = _show_warning
        try:
            sys.exit(app(args=arguments or ["--help"], prog_name="suture", standalone_mode=False))
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        except MISUSE as error:
            console.show_error(_told(error))
            sys.exit(UsageError.exit_code)
        except typer.Abort:
            console.show_error("stopped, as you wished", kind="nothing done")
            sys.exit(SutureError.exit_code)
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
    """Let SIGTERM and SIGHUP end the block as Ctrl-C does, by way of everything that clears up; what ``nohup`` ignores stays ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in STOPPING}
    heeded = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    for number in heeded:
        signal.signal(number, _leave)
    try:
        yield
    finally:
        for number, handler in heeded.items():
            signal.signal(number, handler)


def _leave(number: int, _: object) -> None:
    """End in good order: what is staged is cleared away, and processes of ours are told. To be told again would only break that off."""
    for each in STOPPING:
        signal.signal(each, signal.SIG_IGN)
    sys.exit(TOLD + number)


def _told(error: Any) -> str:
    """Return what typer finds wrong with a command line, and where to read how it should be."""
    context = getattr(error, "ctx", None)
    hint = f"; `{context.command_path} -h` says what there is" if context is not None else ""
    return f"{error.format_message().rstrip('.')}{hint}"


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
