"""``suture``: the commands that look something up."""

from typing import Annotated

import typer

from suture.cli import console
from suture.cli.paper import app

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
