"""``suture``: the commands."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from suture.cli import console
from suture.cli.engines import Address, EngineName, Jobs, chosen_engine
from suture.errors import InvalidHyperparameter, UsageError

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

Precision = Literal["float64", "float32", "bfloat16", "float16"]
RecipeFile = Annotated[
    Path,
    typer.Argument(metavar="RECIPE", help="A recipe in YAML; `suture recipe` prints one to start from."),
]
Out = Annotated[Path, typer.Option("--out", "-o", help="The folder to write; it appears whole or not at all.")]
Replace = Annotated[bool, typer.Option("--replace", help="Replace the output folder if Suture wrote it.")]
Strict = Annotated[bool, typer.Option("--strict", help="Refuse transductive calibration: learning from what is evaluated.")]
Merged = Annotated[
    Path | None,
    typer.Option("--merged", help="A merged model folder to look at in place of merging by the recipe's first method."),
]


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,  # noqa: ARG001  main() reads it
) -> None:
    """Print the version when asked to."""
    if version:
        from suture import __version__

        console.out.print(__version__)
        raise typer.Exit


@app.command()
def demo(
    suite: Annotated[str, typer.Argument(help="An embedded suite.")] = "nlp8",
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


@app.command(name="recipe")
def show_template() -> None:
    """Print a commented recipe for experts of your own, to start from."""
    from suture.experiment import template_file

    console.show_file(template_file())


@app.command()
def run(recipe: RecipeFile, out: Out, strict: Strict = False, replace: Replace = False) -> None:
    """Run a recipe: merge, encode, operate, evaluate; tables, figures and weights go to the output folder."""
    from suture.experiment import read_recipe

    _run_and_show(read_recipe(recipe, strict=strict), out, replace=replace)


@app.command()
def report(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A folder with a report.json: what `suture run` wrote.")],
) -> None:
    """Make report.html of a folder's report.json: tables to sort, pictures to look into, one file that loads nothing."""
    from suture.report.page import write_page

    console.show_written(write_page(out))


@app.command()
def merge(
    method: Annotated[str, typer.Argument(help="One of `suture methods`.")],
    out: Out,
    experts: Annotated[list[Path] | None, typer.Argument(help="Model folders, safetensors files or PEFT LoRA adapter folders.")] = None,
    base: Annotated[
        Path | None, typer.Option("--base", help="The folder or safetensors file that all experts were fine-tuned from.")
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option("--recipe", help="Take base, experts and the data to learn from out of a recipe, in place of EXPERTS and --base."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A hyperparameter of the method; may be repeated."),
    ] = None,
    dtype: Annotated[
        Precision | None,
        typer.Option("--dtype", help="Write this precision; needed when base and experts are stored in different ones."),
    ] = None,
    batch_norm: Annotated[
        Literal["mean", "base"] | None,
        typer.Option("--batch-norm", help="Running statistics of such norms: the experts' mean, or the base's; in recipes, 'batch_norm'."),
    ] = None,
    network: Annotated[
        str, typer.Option("--network", metavar="PACKAGE.MODULE:FUNCTION", help="What makes the network, where it is one of your own.")
    ] = "",
    jobs: Jobs = 1,
    engine: EngineName = "local",
    address: Address = None,
    strict: Strict = False,
    replace: Replace = False,
) -> None:
    """Merge experts into one model folder, tensor by tensor, whatever their size.

    Methods that learn from unlabelled data (`suture methods` says which) need a recipe. With several jobs, or on a cluster, every file of
    a sharded model is merged by itself; if that is cut short, the same command goes on from the files that were done.
    """
    import torch

    from suture.backbones import open_aligned
    from suture.checkpoints import check_output, open_checkpoint
    from suture.merging import make_method, merge_by_shards, merge_to_folder

    crew = chosen_engine(engine, jobs, address)
    chosen, precision = make_method(method, _settings(settings or [])), None if dtype is None else getattr(torch, dtype)
    if recipe is not None:
        if base is not None or experts:
            raise UsageError("--recipe names base and experts itself: give either it, or --base and EXPERTS")
        if batch_norm is not None or network:
            raise UsageError("a recipe says itself what --batch-norm and --network do ('batch_norm', 'backbone.network'): leave them out")
        if crew is not None:
            raise UsageError("a merge by a recipe is not split: leave out --jobs and --engine")
        from suture.experiment import merge_only, read_recipe

        merge_only(read_recipe(recipe, strict=strict), chosen, out, dtype=precision, replace=replace, stage=console.progress_stage)
    else:
        if base is None or not experts:
            raise UsageError("give --base and at least one expert, or --recipe")
        check_output(out, replace=replace, inputs=[base, *experts])
        origin = open_checkpoint(base)
        sources = [open_aligned(origin, expert, network) for expert in experts]
        run_merge = merge_to_folder if crew is None else partial(merge_by_shards, engine=crew)
        run_merge(
            chosen, origin, sources, out, dtype=precision, batch_norm=batch_norm or "mean", replace=replace, stage=console.progress_stage
        )
    console.show_written(out)


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="A .pt, .pth, .bin or .ckpt file, or a model folder with pytorch_model.bin.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The model folder to write, or a file that ends in .safetensors.")],
    key: Annotated[str, typer.Option("--key", help="Where the tensors are in it, with dots, if not in a usual place.")] = "",
    replace: Replace = False,
) -> None:
    """Make safetensors of a pickled checkpoint, in a confined process that runs nothing of it.

    State dicts, trainers' checkpoints and whole pickled modules of open_clip, timm, transformers and the task-vectors code are read.
    """
    from suture.checkpoints import convert as convert_pickle
    from suture.checkpoints.converting import pickles_of

    with console.progress_stage("Converting", len(pickles_of(source))) as progress:
        found = convert_pickle(source, out, key, replace=replace, progress=progress)
    if found.left_out:
        console.out.print(f"Left out, as no tensors: {', '.join(found.left_out)}", markup=False)
    console.out.print(f"{found.tensors} tensors")
    console.show_written(out)


@app.command()
def bias(recipe: RecipeFile, merged: Merged = None, strict: Strict = False) -> None:
    """Show how far a merged model's representations have drifted from each expert's (Eq. 1)."""
    from suture.experiment import measure_only, read_recipe
    from suture.report.tables import bias_tables

    console.show_tables(bias_tables(measure_only(read_recipe(recipe, strict=strict), merged, stage=console.progress_stage)))


@app.command()
def operate(
    recipe: RecipeFile,
    out: Annotated[Path, typer.Option("--out", "-o", help="The surgery file to write; it appears whole or not at all.")],
    merged: Merged = None,
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget",
            metavar="SHARE",
            help="Parameters a task may cost, as a share of the backbone's: 0.5%. "
            "Decides the rank, and the procedure too if the recipe names none.",
        ),
    ] = None,
    strict: Strict = False,
    replace: Annotated[bool, typer.Option("--replace", help="Replace the output if it is a surgery file.")] = False,
) -> None:
    """Fit the surgery of a merged model, without labels, and write it as safetensors (the recipe's first procedure and seed)."""
    from suture.experiment import operate_only, read_recipe, within_budget

    chosen = read_recipe(recipe, strict=strict)
    if budget is not None:
        chosen = within_budget(chosen, budget)
    operate_only(chosen, merged, out, replace=replace, stage=console.progress_stage)
    console.show_written(out)


@app.command()
def evaluate(
    recipe: RecipeFile,
    merged: Merged = None,
    surgery: Annotated[Path | None, typer.Option("--surgery", help="A surgery file written by `suture operate`.")] = None,
    strict: Strict = False,
) -> None:
    """Show accuracy and bias of base, experts and merged model, with surgery where a file is given."""
    from suture.experiment import measure_only, read_recipe
    from suture.report.tables import comparison_tables

    chosen = read_recipe(recipe, strict=strict)
    results = measure_only(chosen, merged, surgery, baselines_too=True, strict=strict, stage=console.progress_stage)
    console.show_tables(comparison_tables(results))


@app.command()
def methods() -> None:
    """List the merging methods with their hyperparameters, defaults and papers."""
    from suture.merging import METHODS
    from suture.report.tables import methods_table

    console.out.print(methods_table(METHODS))


def _run_and_show(recipe: "Recipe", out: Path, *, replace: bool) -> None:
    from suture.experiment import run as run_experiment
    from suture.report.tables import comparison_tables

    outcome = run_experiment(recipe, out, replace=replace, stage=console.progress_stage)
    console.show_tables(comparison_tables(outcome.results))
    console.show_notes(outcome.notes)
    console.show_written(outcome.out)


def _settings(texts: list[str]) -> dict[str, str]:
    """Read ``--set NAME=VALUE``, each name once."""
    settings: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise InvalidHyperparameter(f"--set takes NAME=VALUE, not {text!r}")
        if name in settings:
            raise InvalidHyperparameter(f"--set gives {name} twice: {settings[name]} and {value}")
        settings[name] = value
    return settings
