"""``suture paper``: the papers' tables and figures, of a suite or of one's own experts."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from suture.cli import console
from suture.cli.app import PANEL, Out, Replace
from suture.cli.engines import Address, EngineName, Jobs, chosen_engine
from suture.cli.ship import app
from suture.errors import UsageError

if TYPE_CHECKING:
    from suture.paper import Study

__all__ = ["app"]


@app.command(rich_help_panel=PANEL)
def paper(
    items: Annotated[list[str] | None, typer.Argument(metavar="ITEM", help="Tables or figures (--list); all by default.")] = None,
    suite: Annotated[
        Literal["nlp8", "vision8", "clip8"] | None,
        typer.Option("--suite", help="An embedded one, nlp8 by default, or clip8: the papers' own."),
    ] = None,
    recipe: Annotated[Path | None, typer.Option("--recipe", metavar="RECIPE", help="Experts and data of your own.")] = None,
    arch: Annotated[str | None, typer.Option("--arch", help="Of clip8: ViT-B-32, the default, ViT-B-16 or ViT-L-14.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer samples, one seed, few steps of what learns by gradient.")] = False,
    jobs: Jobs = 1,
    engine: EngineName = "local",
    address: Address = None,
    store: Annotated[
        Path | None, typer.Option("--store", help="Where measurements are kept; for Ray, a folder that all nodes share.")
    ] = None,
    out: Out = Path("out/paper"),
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Fetch what clip8 needs without asking.")] = False,
    listed: Annotated[bool, typer.Option("--list", help="Print the items and exit.")] = False,
    replace: Replace = False,
) -> None:
    """Repeat the papers' experiments: every table and figure, and a page to look at.

    What has been measured is kept and never measured again: a run that was cut short goes on where it was.
    """
    from suture.checkpoints import check_output
    from suture.paper import chosen, write_paper
    from suture.report.tables import items_table

    wanted = chosen(items or [])
    _check(suite, recipe, arch)
    if listed:
        console.out.print(items_table({item.name: item.title for item in chosen([])}))
        return
    runs = chosen_engine(engine, jobs, address)
    check_output(out, replace=replace)  # before anything is fetched or measured
    study = _study(suite or "nlp8", recipe, arch or "ViT-B-32", quick=quick, yes=yes)
    written = write_paper(study, wanted, out, engine=runs, store=store, replace=replace, stage=console.progress_stage)
    console.show_notes([written.report.summary, *written.report.notes, f"{len(written.steps.ran)} steps were run; what is known is kept."])
    console.show_written(written.out)


def _check(suite: str | None, recipe: Path | None, arch: str | None) -> None:
    """Raise :class:`UsageError` for options that do not go together."""
    if recipe is not None and suite is not None:
        raise UsageError("--recipe names experts and data itself: leave out --suite")
    if arch is not None and suite != "clip8":
        raise UsageError("--arch is for --suite clip8")


def _study(suite: str, recipe: Path | None, arch: str, *, quick: bool, yes: bool) -> "Study":
    """Return the study of a suite, or of a recipe's experts; what must be fetched is shown first."""
    from suture.experiment import demo_recipe_file, read_recipe
    from suture.paper import clip8_base, clip8_recipe, settings_for, study_of
    from suture.report.tables import fetched_table
    from suture.tasks.suites.clip8 import sources

    if recipe is not None:
        chosen_recipe = read_recipe(recipe)
        return study_of(chosen_recipe, quick=quick, settings=settings_for(chosen_recipe.suite or "", quick=quick))
    if suite != "clip8":
        return study_of(read_recipe(demo_recipe_file(suite)), quick=quick, settings=settings_for(suite, quick=quick))
    console.show_tables([fetched_table(sources(arch).fetched)])
    console.show_notes([f"{suite}: fetched into Hugging Face's cache (HF_HUB_CACHE), and never twice; HF_HUB_OFFLINE=1 fetches nothing."])
    if not yes:
        typer.confirm("Go on?", abort=True)
    chosen_recipe = clip8_recipe(arch, clip8_base(arch, console.progress_stage))
    return study_of(chosen_recipe, quick=quick, papers=arch, settings=settings_for(suite, quick=quick))
