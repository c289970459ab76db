"""``suture``: the commands that merge, and that operate on what was merged."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from suture.cli import console
from suture.cli.app import Merged, NetworkPlace, Out, RecipeFile, Replace, app
from suture.cli.engines import Address, EngineName, Jobs, chosen_engine
from suture.errors import InvalidHyperparameter, UsageError

if TYPE_CHECKING:
    import torch

    from suture.engine import Engine
    from suture.merging import MergingMethod
    from suture.merging.batch_norm import BatchNorm

__all__ = ["app"]

PANEL = "Merging and surgery"

Precision = Literal["float64", "float32", "bfloat16", "float16"]
Experts = Annotated[
    list[Path] | None, typer.Argument(metavar="EXPERT", help="Model folders, safetensors files or PEFT LoRA adapter folders.")
]
Base = Annotated[Path | None, typer.Option("--base", help="The folder or safetensors file that all experts were fine-tuned from.")]
OfRecipe = Annotated[
    Path | None,
    typer.Option("--recipe", help="Take base, experts and data from a recipe, in place of EXPERT and --base."),
]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A hyperparameter of the method; may be repeated.")]
Written = Annotated[
    Precision | None,
    typer.Option("--dtype", metavar="DTYPE", help="Write float64, float32, bfloat16 or float16; needed when the inputs differ in it."),
]
Statistics = Annotated[
    Literal["mean", "base"] | None,
    typer.Option("--batch-norm", help="Running statistics of norms over batches: the experts' mean, which is usual, or the base's."),
]
SurgeryFile = Annotated[Path, typer.Option("--out", "-o", help="The surgery file to write; it appears whole or not at all.")]
ReplaceSurgery = Annotated[bool, typer.Option("--replace", help="Replace the output if it is a surgery file.")]


@app.command(rich_help_panel=PANEL)
def merge(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="One of `suture methods`.")],
    out: Out,
    experts: Experts = None,
    base: Base = None,
    recipe: OfRecipe = None,
    settings: Settings = None,
    dtype: Written = None,
    batch_norm: Statistics = None,
    network: NetworkPlace = "",
    jobs: Jobs = 1,
    engine: EngineName = "local",
    address: Address = None,
    replace: Replace = False,
) -> None:
    """Merge experts into one model folder, tensor by tensor, whatever their size.

    Methods that learn from unlabelled data (`suture methods` says which) need a recipe.

    With several jobs, or on a cluster, every file of a sharded model is merged by itself; run again, what was cut short goes on.
    """
    import torch

    from suture.merging import make_method

    crew = chosen_engine(engine, jobs, address)
    chosen, precision = make_method(method, _settings(settings or [])), None if dtype is None else getattr(torch, dtype)
    if recipe is not None:
        _check_alone(bool(base or experts), bool(batch_norm or network), crew is not None)
        from suture.experiment import merge_only, read_recipe

        merge_only(read_recipe(recipe), chosen, out, dtype=precision, replace=replace, stage=console.progress_stage)
    elif base is None or not experts:
        raise UsageError("give --base and at least one expert, or --recipe")
    else:
        _merge_files(chosen, base, experts, out, network, crew, precision, batch_norm or "mean", replace=replace)
    console.show_written(out)


def _check_alone(weights: bool, about: bool, split: bool) -> None:
    """Raise :class:`UsageError` for what a recipe says itself, and for a merge by one that is to be split."""
    if weights:
        raise UsageError("--recipe names base and experts itself: give either it, or --base and EXPERT")
    if about:
        raise UsageError("a recipe says itself what --batch-norm and --network do ('batch_norm', 'backbone.network'): leave them out")
    if split:
        raise UsageError("a merge by a recipe is not split: leave out --jobs and --engine")


def _merge_files(
    method: "MergingMethod",
    base: Path,
    experts: list[Path],
    out: Path,
    network: str,
    crew: "Engine | None",
    dtype: "torch.dtype | None",
    batch_norm: "BatchNorm",
    *,
    replace: bool,
) -> None:
    """Open base and experts and merge them: in this process, or shard by shard by a crew."""
    from suture.backbones import open_aligned
    from suture.checkpoints import check_output, open_checkpoint
    from suture.merging import merge_by_shards, merge_to_folder

    check_output(out, replace=replace, inputs=[base, *experts])
    origin = open_checkpoint(base)
    sources = [open_aligned(origin, expert, network) for expert in experts]
    run_merge = merge_to_folder if crew is None else partial(merge_by_shards, engine=crew)
    run_merge(method, origin, sources, out, dtype=dtype, batch_norm=batch_norm, replace=replace, stage=console.progress_stage)


@app.command(rich_help_panel=PANEL)
def convert(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="A .pt, .pth, .bin or .ckpt file, or a folder with pytorch_model.bin.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The model folder to write, or a file that ends in .safetensors.")],
    key: Annotated[str, typer.Option("--key", help="Where the tensors are in it, with dots, if not in a usual place.")] = "",
    replace: Replace = False,
) -> None:
    """Make safetensors of a pickled checkpoint, in a confined process that runs nothing of it.

    State dicts, trainers' checkpoints and whole pickled modules of open_clip, timm, transformers and the task-vectors code are read.
    """
    from suture.checkpoints import convert as convert_pickle
    from suture.checkpoints import local_copy
    from suture.checkpoints.converting import pickles_of

    place = local_copy(source, pickles=True)  # looked up on the hub once
    with console.progress_stage("Converting", len(pickles_of(place))) as progress:
        found = convert_pickle(place, out, key, replace=replace, progress=progress)
    if found.left_out:
        console.out.print(f"Left out, as no tensors: {', '.join(found.left_out)}", markup=False)
    console.out.print(f"{found.tensors} tensors")
    console.show_written(out)


@app.command(rich_help_panel=PANEL)
def operate(
    recipe: RecipeFile,
    out: SurgeryFile,
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
    replace: ReplaceSurgery = False,
) -> None:
    """Fit the surgery of a merged model, without labels: the recipe's first procedure, with its first seed."""
    from suture.experiment import operate_only, read_recipe, within_budget

    chosen = read_recipe(recipe) if budget is None else within_budget(read_recipe(recipe), budget)
    operate_only(chosen, merged, out, replace=replace, stage=console.progress_stage)
    console.show_written(out)


@app.command(rich_help_panel=PANEL)
def features(
    recipe: RecipeFile,
    task: Annotated[str, typer.Option("--task", "-t", help="The task whose expert and inputs these are.")],
    merged: Annotated[Path, typer.Option("--merged", help="The merged model folder.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file of features to write; it appears whole or not at all.")],
    replace: Annotated[bool, typer.Option("--replace", help="Replace the output if it is a file of features.")] = False,
) -> None:
    """Write what a merged model and an expert make of one task's calibration inputs: all that surgery is fitted on.

    So neither inputs nor weights need leave their owner. `suture operate-features` fits surgery to such files.
    """
    from suture.experiment import features_only, read_recipe

    features_only(read_recipe(recipe), task, merged, out, replace=replace, stage=console.progress_stage)
    console.show_written(out)


@app.command(name="operate-features", rich_help_panel=PANEL)
def operate_features(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Files of `suture features`, one of each task.")],
    out: SurgeryFile,
    procedure: Annotated[
        Literal["closed_form", "surgery"], typer.Option("--procedure", help="surgery: the papers', by gradient.")
    ] = "closed_form",
    rank: Annotated[int, typer.Option("--rank", min=1, help="Of every task's correction.")] = 16,
    replace: ReplaceSurgery = False,
) -> None:
    """Fit surgery to files of features that owners of experts handed over, as `suture operate` does to what they are of."""
    from suture.experiment import operate_on_features

    operate_on_features(files, procedure, rank, out, replace=replace)
    console.show_written(out)


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
