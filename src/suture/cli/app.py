"""``suture``: the commands."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from suture.cli import console

if TYPE_CHECKING:
    from suture.experiment import Recipe

app = typer.Typer(
    name="suture",
    help="Turn many fine-tuned experts of one backbone into one multi-task model that comes close to the experts.",
    epilog="Start with: suture demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

PANEL = "Whole experiments"
"""What the help lists these commands under."""

RecipeFile = Annotated[
    Path,
    typer.Argument(metavar="RECIPE", help="A recipe in YAML; `suture recipe` prints one to start from."),
]
Out = Annotated[Path, typer.Option("--out", "-o", help="The folder to write; it appears whole or not at all.")]
Replace = Annotated[bool, typer.Option("--replace", help="Replace the output folder if Suture wrote it, and all in it.")]
NetworkPlace = Annotated[
    str,
    typer.Option("--network", metavar="PACKAGE.MODULE:FUNCTION", help="What makes the network, where it is one of your own."),
]
Strict = Annotated[bool, typer.Option("--strict", help="Refuse transductive calibration: learning from what is evaluated.")]
Merged = Annotated[
    Path | None,
    typer.Option("--merged", help="A merged model folder to look at in place of merging by the recipe's first method."),
]


def _show_version(asked: bool) -> bool:
    if asked:
        from suture import __version__

        console.out.print(__version__)
        raise typer.Exit
    return asked


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Print the version and exit.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Take what goes before a command."""


@app.command(rich_help_panel=PANEL)
def demo(
    suite: Annotated[str, typer.Argument(metavar="SUITE", help="An embedded suite: nlp8 or vision8.")] = "nlp8",
    out: Out = Path("out/demo"),
    replace: Replace = False,
    show_recipe: Annotated[bool, typer.Option("--show-recipe", help="Print the suite's recipe and exit.")] = False,
) -> None:
    """Run an embedded suite: eight real experts become one model, before and after surgery."""
    from suture.experiment import demo_recipe_file, read_recipe

    file = demo_recipe_file(suite)
    if show_recipe:
        console.show_file(file)
        return
    _run_and_show(read_recipe(file), out, replace=replace)


@app.command(name="recipe", rich_help_panel=PANEL)
def show_template() -> None:
    """Print a commented recipe for experts of your own, to start from."""
    from suture.experiment import template_file

    console.show_file(template_file())


@app.command(rich_help_panel=PANEL)
def run(recipe: RecipeFile, out: Out, strict: Strict = False, replace: Replace = False) -> None:
    """Run a recipe: merge, encode, operate, evaluate; tables, figures and weights go to a folder."""
    from suture.experiment import read_recipe

    _run_and_show(read_recipe(recipe, strict=strict), out, replace=replace)


@app.command(rich_help_panel=PANEL)
def report(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A folder with a report.json: what `suture run` wrote.")],
) -> None:
    """Make a folder's report.html anew: tables to sort, pictures to look into, one file that loads nothing."""
    from suture.report.page import write_page

    console.show_written(write_page(out))


@app.command(rich_help_panel=PANEL)
def bias(recipe: RecipeFile, merged: Merged = None, strict: Strict = False) -> None:
    """Show how far a merged model's representations have drifted from each expert's (Eq. 1)."""
    from suture.experiment import measure_only, read_recipe
    from suture.report.tables import bias_tables

    console.show_tables(bias_tables(measure_only(read_recipe(recipe, strict=strict), merged, stage=console.progress_stage)))


@app.command(rich_help_panel=PANEL)
def evaluate(
    recipe: RecipeFile,
    merged: Merged = None,
    surgery: Annotated[Path | None, typer.Option("--surgery", help="A surgery file written by `suture operate`.")] = None,
    strict: Strict = False,
) -> None:
    """Show accuracy and bias of base, experts and merged model, with surgery where a file is given."""
    from suture.experiment import measure_only, read_recipe, told_of_answers
    from suture.report.tables import comparison_tables

    chosen = read_recipe(recipe, strict=strict)
    results = measure_only(chosen, merged, surgery, baselines_too=True, strict=strict, stage=console.progress_stage)
    console.show_tables(comparison_tables(results))
    console.show_notes(told_of_answers(chosen))


def _run_and_show(recipe: "Recipe", out: Path, *, replace: bool) -> None:
    from suture.experiment import run as run_experiment
    from suture.report.tables import comparison_tables

    outcome = run_experiment(recipe, out, replace=replace, stage=console.progress_stage)
    console.show_tables(comparison_tables(outcome.results))
    console.show_notes(outcome.notes)
    console.show_written(outcome.out)
