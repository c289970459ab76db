"""What the terminal shows: progress, tables, notes, errors."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from suture.errors import OutputError, printable
from suture.types import Progress as Advance

if TYPE_CHECKING:
    from rich.table import Table

    from suture.checkpoints import Verdict

LISTED = 8
"""How many files are named in a line."""
MINUTE = 60.0
"""In seconds."""


class Output(Console):
    """Standard output, whose faults are errors of ours."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as rich does; raises :class:`suture.errors.OutputError` where the system does not take it."""
        try:
            super().print(*objects, **options)
        except OSError as error:
            # What is left in the buffer would fail once more when Python ends, and change the exit code.
            with Path(os.devnull).open("w") as nowhere, suppress(OSError, ValueError):
                os.dup2(nowhere.fileno(), self.file.fileno())
            raise OutputError(f"cannot write to standard output: {error.strerror or error}") from error


out = Output(highlight=False)
err = Console(stderr=True, highlight=False)


@contextmanager
def progress_stage(name: str, units: int) -> Iterator[Advance]:
    """Show one piece of long work as a bar that stays, with its time, when it is done; in a log, as it is every minute until then."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(14),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=err) as bars:
        bar = Bar(bars, bars.add_task(_described(name), total=units or None))
        yield bar
        bars.update(bar.task, total=units or 1, completed=units or 1)


@dataclass
class Bar:
    """A bar on the terminal, as a progress that can be renamed."""

    bars: Progress
    task: TaskID
    shown: float = field(default_factory=monotonic)
    """When it was printed last, where it is not drawn."""

    def __call__(self, count: int) -> None:
        """Show that so many units more are done."""
        self.bars.advance(self.task, count)
        console = self.bars.console
        if not console.is_terminal and monotonic() - self.shown >= MINUTE:
            self.shown = monotonic()
            console.print(self.bars.make_tasks_table(self.bars.tasks))

    def rename(self, name: str) -> None:
        """Show another name from now on."""
        self.bars.update(self.task, description=_described(name))


def show_tables(tables: list["Table"]) -> None:
    """Print tables one below the other."""
    for table in tables:
        out.print()
        out.print(table)


def show_notes(notes: list[str]) -> None:
    """Print what a reader must know to read the tables."""
    if notes:
        out.print()
    for note in notes:
        out.print(f"• {escape(printable(note))}")


def show_verdict(verdict: "Verdict") -> None:
    """Say in a line what was found of an output."""
    parts = []
    if count := len(verdict.verified):
        parts.append(f"{count} file{'s' if count > 1 else ''} as written")
    if count := len(verdict.faults):
        parts.append(f"{count} changed or missing")
    if names := verdict.unverified:
        more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
        parts.append(f"unverified, as nothing tells how they were written: {', '.join(names[:LISTED])}{more}")
    out.print(escape(printable(f"{verdict.place}: {'; '.join(parts) or 'no files'}")), soft_wrap=True)


def show_written(path: Path) -> None:
    """Say where the result lies."""
    out.print(f"\nWritten to [bold]{escape(str(path))}[/bold]")


def show_text(text: str) -> None:
    """Print text as it is, for a file or another program."""
    out.print(text, end="", markup=False, soft_wrap=True)


def show_file(file: Path) -> None:
    """Print a text file as it is."""
    show_text(file.read_text(encoding="utf-8"))


def show_json(content: Mapping[str, object]) -> None:
    """Print a line of JSON for other programs to read: nothing in it is styled, wrapped or taken for markup."""
    line = json.dumps(content, ensure_ascii=False)
    try:
        line.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        line = json.dumps(content)
    sys.stdout.write(f"{line}\n")


def show_error(message: str, kind: str = "error") -> None:
    """Print an error in red on the error stream."""
    err.print(f"[bold red]{kind}:[/bold red] {escape(printable(message))}", soft_wrap=True)


def show_warning(message: str) -> None:
    """Print a warning in yellow on the error stream, in one line."""
    err.print(f"[bold yellow]warning:[/bold yellow] {escape(printable(' '.join(message.split())))}", soft_wrap=True)


def _described(name: str) -> str:
    return f"{printable(name):<48.48}"
