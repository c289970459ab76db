"""The way into the command line and out of it: what went wrong becomes one line and an exit code."""

import sys
import traceback
import warnings
from typing import TextIO

from suture.cli import console
from suture.cli.looking import app
from suture.errors import SutureError, SutureWarning

INTERNAL, INTERRUPTED = 70, 130
"""Exit codes: EX_SOFTWARE of sysexits.h, and what a shell reports after Ctrl-C. Our errors carry their own."""


def main() -> None:
    """Run the command line; an error of ours prints its message and exits with its class's code, any other asks to be reported."""
    arguments, debug = _without_debug(sys.argv[1:])
    with warnings.catch_warnings():
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
