"""``suture``: the commands about the model that one ships."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from suture.cli import console
from suture.cli.app import NetworkPlace, Out, RecipeFile, Replace
from suture.cli.merging import app
from suture.errors import UsageError

if TYPE_CHECKING:
    from suture.inputs import Input
    from suture.multitask import Facts, MultiTaskModel

ModelPlace = Annotated[Path, typer.Argument(metavar="MODEL", help="A folder that `suture build` wrote, or hf://owner/name.")]
__all__ = ["app"]

PANEL = "The one model to ship"

TOGETHER = 1024
"""How many inputs are answered before the answers are printed."""

KeepBackbone = Annotated[
    bool,
    typer.Option("--keep-backbone", help="Leave the merged weights as they are: other tasks' answers stay the same to the bit."),
]


@app.command(rich_help_panel=PANEL)
def build(
    recipe: RecipeFile,
    out: Out,
    router: Annotated[bool, typer.Option("--router/--no-router", help="Whether the model is to find the task of an input itself.")] = True,
    replace: Replace = False,
) -> None:
    """Make the one model to ship: the recipe's first merge, its first surgery, a router; and a model card that says how good it is.

    RECIPE is a file, or the name of an embedded suite, whose own recipe is taken: nlp8 or vision8.
    """
    from suture.experiment import build as build_model
    from suture.experiment import named_recipe

    _show(build_model(named_recipe(recipe), out, route=router, replace=replace, stage=console.progress_stage), out)


@app.command(rich_help_panel=PANEL)
def predict(
    model: ModelPlace,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT",
            help="Tables (csv, jsonl, parquet), text files (a text on each line), images or folders of them; - is standard input.",
        ),
    ] = None,
    task: Annotated[str, typer.Option("--task", "-t", help="A task's name; auto: the model finds it; all: every task answers.")] = "auto",
    text: Annotated[list[str] | None, typer.Option("--text", help="A text itself; may be repeated.")] = None,
    column: Annotated[str | None, typer.Option("--column", help="The column of tables; without it, text or image.")] = None,
    network: NetworkPlace = "",
) -> None:
    """Say what inputs are, a line of JSON for each: task, label, probabilities and, where the task was found, how sure that is."""
    from suture.multitask import ALL, AUTO, from_pretrained
    from suture.tasks import read_inputs

    if not inputs and not text:
        raise UsageError("give files or folders, - for standard input, or --text")
    loaded = from_pretrained(model, network)
    if task not in (AUTO, ALL):
        loaded.classes(task)
    kind = loaded.backbone.kind
    if text and kind != "text":
        raise UsageError(f"{model} takes {kind}s, not texts")
    given = [(each, each) for each in text or []]
    found: list[tuple[str, Input]] = [*given, *(read_inputs(inputs, kind, column) if inputs else [])]
    _answer(loaded, found, task)


def _answer(model: "MultiTaskModel", inputs: "list[tuple[str, Input]]", task: str) -> None:
    """Print what the model makes of each input, some at a time."""
    from suture.multitask import ALL, AUTO

    times = 1 if model.shares_passes else len(model.tasks) if task == ALL else 1 + (task == AUTO)
    with console.progress_stage("Predicting", times * len(inputs)) as progress:
        for start in range(0, len(inputs), TOGETHER):
            part = inputs[start : start + TOGETHER]
            given = [each for _, each in part]
            answers = model.predict_all(given, progress) if task == ALL else {task: model.predict(given, task, progress)}
            for place, (name, _) in enumerate(part):
                for own in answers.values():
                    console.show_json({"input": name, **own[place].told(routed=task == AUTO)})


@app.command(rich_help_panel=PANEL)
def add(
    model: ModelPlace,
    task: Annotated[
        str,
        typer.Argument(metavar="TASK", help="A YAML file that describes a task as recipes do, or a task of the model's suite."),
    ],
    out: Out,
    keep_backbone: KeepBackbone = False,
    network: NetworkPlace = "",
    replace: Replace = False,
) -> None:
    """Add a task to a model: its expert is merged in, and all surgery fitted anew to the backbone that this gives.

    With --keep-backbone the new task gets surgery of its own on the backbone as it is.
    """
    from suture.experiment import add_task

    before = _facts_of(model)
    _show(
        add_task(model, task, out, keep_backbone=keep_backbone, network=network, replace=replace, stage=console.progress_stage), out, before
    )


@app.command(rich_help_panel=PANEL)
def remove(
    model: ModelPlace,
    task: Annotated[str, typer.Argument(metavar="TASK", help="The task to take out.")],
    out: Out,
    keep_backbone: KeepBackbone = False,
    network: NetworkPlace = "",
    replace: Replace = False,
) -> None:
    """Take a task out of a model: the others are merged, and operated, without it."""
    from suture.experiment import remove_task

    before = _facts_of(model)
    _show(
        remove_task(model, task, out, keep_backbone=keep_backbone, network=network, replace=replace, stage=console.progress_stage),
        out,
        before,
    )


@app.command(rich_help_panel=PANEL)
def export(
    model: ModelPlace,
    out: Out,
    network: NetworkPlace = "",
    replace: Replace = False,
) -> None:
    """Write a model as ONNX graphs, one with the task as an input and one for each task, and check them against PyTorch."""
    from suture.multitask import from_pretrained
    from suture.multitask.onnx import export_onnx

    loaded = from_pretrained(model, network)
    with console.progress_stage("Exporting", len(loaded.tasks) + 1) as progress:
        export_onnx(loaded, out, replace=replace, progress=progress)
    console.show_written(out)


@app.command(rich_help_panel=PANEL)
def serve(
    model: ModelPlace,
    host: Annotated[str, typer.Option("--host", help="0.0.0.0 lets other machines in; there is no password.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes one that is free.")] = 8000,
    batch: Annotated[int, typer.Option("--batch", min=1, help="The most inputs that go through the backbone at once.")] = 64,
    wait: Annotated[float, typer.Option("--wait", min=0, help="Milliseconds that a request waits for others to join it.")] = 5.0,
    max_inputs: Annotated[int, typer.Option("--max-inputs", min=1, help="The most inputs of a request.")] = 256,
    max_megabytes: Annotated[float, typer.Option("--max-megabytes", min=0.001, help="The most that a request may hold.")] = 8.0,
    network: NetworkPlace = "",
) -> None:
    """Serve a model over HTTP: POST /predict, GET /tasks, /health and /metrics; / is a page that describes them."""
    from suture.multitask import from_pretrained
    from suture.serving import Limits
    from suture.serving import serve as serve_model

    loaded = from_pretrained(model, network)
    usual, size = Limits(), int(max_megabytes * 1e6)
    queue, held = max(usual.queue, 4 * max_inputs), max(usual.held, 4 * size)
    limits = Limits(batch=batch, wait=wait / 1000, inputs=max_inputs, bytes=size, queue=queue, held=held)
    console.err.print(f"{len(loaded.tasks)} tasks: {', '.join(loaded.tasks)}", markup=False)
    serve_model(loaded, limits, host, port, lambda address: console.err.print(f"Serving on {address}", markup=False))


@app.command(rich_help_panel=PANEL)
def fold(model: ModelPlace, out: Out, network: NetworkPlace = "", replace: Replace = False) -> None:
    """Fold surgery into the heads, which makes it free: closed forms of the final representation, with linear heads."""
    from suture.multitask import from_pretrained

    from_pretrained(model, network).folded().save_pretrained(out, replace=replace)
    console.show_written(out)


@app.command(rich_help_panel=PANEL)
def push(
    model: ModelPlace,
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The repository to make, or to add to.")],
    public: Annotated[bool, typer.Option("--public", help="Let everybody see it; without, it is private.")] = False,
    network: NetworkPlace = "",
) -> None:
    """Upload a model to the hub, with the token that `hf auth login` has kept; its recipe stays here."""
    from suture.multitask import from_pretrained

    address = from_pretrained(model, network).push_to_hub(repository, private=not public)
    console.out.print(f"Uploaded: {address}", markup=False)


def _facts_of(model: Path) -> "Facts":
    from suture.multitask import folder_of, read_description

    return read_description(folder_of(model)).facts


def _show(facts: "Facts", out: Path, before: "Facts | None" = None) -> None:
    from suture.report.tables import facts_table

    console.show_tables([facts_table(facts, before)])
    console.show_notes([facts.calibration])
    console.show_written(out)
