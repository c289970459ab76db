"""``suture``: the commands that look something up."""

from pathlib import Path
from typing import Annotated

import typer

from suture.cli import console
from suture.cli.paper import app
from suture.errors import CheckpointError, CorruptCheckpoint

__all__ = ["app"]

PANEL = "Looking things up"


@app.command(rich_help_panel=PANEL)
def methods() -> None:
    """List the merging methods with their hyperparameters, defaults and papers."""
    from suture.merging import METHODS
    from suture.report.tables import methods_table

    console.out.print(methods_table(METHODS))


@app.command(rich_help_panel=PANEL)
def cite(
    used: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="Recipes, folders that Suture wrote, suites, merging methods, procedures of surgery."),
    ] = None,
) -> None:
    """Print what to cite, as BibTeX: Suture, and the papers behind what was used."""
    from suture.experiment import bibliography

    console.show_text(bibliography(used or []))


@app.command(rich_help_panel=PANEL)
def verify(
    places: Annotated[list[Path], typer.Argument(metavar="PLACE", help="Folders and files that Suture wrote, or hf://owner/name.")],
    strict: Annotated[bool, typer.Option("--strict", help="Refuse what is unverified, too.")] = False,
) -> None:
    """Compare every byte of outputs with what was written.

    Digests are taken while an output is written. A folder has them in its
    manifest.json, which has one of itself; files of surgery, heads, routers
    and features have one in their metadata; any other file of an output is
    looked up in the manifest above it. Nothing is written here.

    A file that is missing, or has changed by a single bit, is named, and the
    exit code is 3. What nobody has taken a digest of, as models of others and
    files that were put into a folder later, is unverified: it is listed, and
    an error with --strict only.

    That an output is whole does not say who wrote it: whoever can change a
    file can change its digest too.
    """
    from suture.checkpoints.verifying import Verdict, files_in
    from suture.checkpoints.verifying import verify as verify_place

    with console.progress_stage("Verifying", sum(len(files_in(place)) for place in places)) as progress:
        verdicts = list[Verdict]()
        for place in places:
            try:
                verdicts.append(verify_place(place, progress))
            except CheckpointError as error:  # the others are told of all the same
                verdicts.append(Verdict(place, faults=[str(error)]))
    for verdict in verdicts:
        console.show_verdict(verdict)
    if faults := [fault for verdict in verdicts for fault in verdict.faults]:
        raise CorruptCheckpoint("\n".join(faults))
    if strict and (unknown := [str(verdict.place) for verdict in verdicts if verdict.unverified or not verdict.verified]):
        raise CheckpointError(f"unverified, at least in part: {', '.join(unknown)}; --strict takes only what has a digest")
