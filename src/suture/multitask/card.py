"""The model card: what a saved model is, how well it does, what it stands on, how it is loaded."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from suture.evaluation import markdown_lines
from suture.multitask.facts import Facts

if TYPE_CHECKING:
    from suture.multitask.model import MultiTaskModel


def model_card(model: "MultiTaskModel", place: str) -> str:
    """Return the card in markdown, with the hub's front matter; ``place`` is what the model is loaded by.

    Nothing in it is a claim: figures are those that were measured when the model was made, and say on what.
    """
    (backbone, own), facts, kind = model.parameters, model.facts, model.backbone.kind
    pipeline = "text-classification" if kind == "text" else "image-classification"
    lines = [
        "---",
        "library_name: suture",
        f"pipeline_tag: {pipeline}",
        "tags:",
        "- model-merging",
        "- multi-task",
        "- representation-surgery",
        "---",
        "",
    ]
    lines += [f"# {place.rpartition('/')[2]}", "", f"One model for {len(model.tasks)} tasks: {', '.join(model.tasks)}.", ""]
    lines += [
        f"- Backbone: {model.backbone.architecture}, {backbone:,} parameters; {facts.family or 'experts of one base'}, "
        f"merged by {facts.merge or 'an unknown method'}.",
        f"- Per task: {own / len(model.tasks):,.0f} parameters on average ({own / len(model.tasks) / backbone:.2%} of the backbone): "
        f"head{', ' + facts.surgery if facts.surgery else ''}{', a share of the router' if model.router else ''}.",
        "- One pass through the backbone answers all tasks." if model.shares_passes else "- Every task takes a pass of its own.",
    ]
    lines += [f"- {facts.calibration}"] if facts.calibration else []
    lines += ["", *_table(facts, model.tasks)] if facts.tasks.keys() >= set(model.tasks) else []
    lines += ["", "## Classes", "", *(f"- {task}: {', '.join(map(_plain, model.classes(task)))}" for task in model.tasks)]
    lines += [
        "",
        "## Use",
        "",
        "```python",
        *([] if kind == "text" else ["from pathlib import Path", ""]),
        "from suture import MultiTaskModel",
        "",
        f'model = MultiTaskModel.from_pretrained("{place}")',
    ]
    given = '"…"' if kind == "text" else 'Path("picture.png")'
    lines += [f'model.predict([{given}], task="{model.tasks[0]}")']
    lines += [f'model.predict([{given}], task="auto")  # which task it is, too'] if model.router is not None else []
    lines += ["```", "", "The backbone alone loads with its own library, from this folder: Suture is not needed for that."]
    lines += ["", "## Licences", "", *(f"- {each}" for each in facts.licences)] if facts.licences else []
    return "\n".join(lines) + "\n"


def _table(facts: Facts, tasks: Sequence[str]) -> list[str]:
    """Return the accuracies, in per cent, a row per task and their average."""
    routed = all(facts.tasks[task].routed is not None for task in tasks)
    header = ["task", "test samples", "individual expert", "merged", "this model"]
    header += (
        ["task found", "this model, task not told", "taken for none of the tasks", "the same, by a router without the task"]
        if routed
        else []
    )
    rows = []
    for task in tasks:
        own = facts.tasks[task]
        shares = [own.individual, own.merged, own.model, *([own.identified, own.routed, own.strange, own.unseen] if routed else [])]
        rows.append([own.samples, *[100 * share for share in shares if share is not None]])
    means = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    body = [[task, f"{row[0]}", *(f"{value:.1f}" for value in row[1:])] for task, row in zip(tasks, rows, strict=True)]
    body.append(["**average**", "", *(f"**{value:.1f}**" for value in means[1:])])
    told = "Accuracy in %, on test samples that nothing was fitted on unless the calibration says so."
    return [told, "", *markdown_lines(header, body)]


def _plain(text: str) -> str:
    """Keep a name from ending its line."""
    return " ".join(text.split())
