"""The model card: what a saved model is, how well it does, what it stands on, how it is loaded."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from suture.multitask.model import MultiTaskModel


class TaskFacts(BaseModel):
    """What was measured of one task, on how many test samples: accuracies as shares."""

    model_config = ConfigDict(extra="forbid")

    samples: int
    individual: float
    merged: float
    model: float
    identified: float | None = None
    """How often the router finds the task."""
    routed: float | None = None
    """The accuracy when the task is not told: found, and the class right."""


class Facts(BaseModel):
    """What a model card tells of how a model came about."""

    model_config = ConfigDict(extra="forbid")

    suite: str = ""
    family: str = ""
    merge: str = ""
    surgery: str = ""
    calibration: str = ""
    tasks: dict[str, TaskFacts] = {}
    licences: list[str] = []
    recipe: dict[str, object] | None = None
    """That which made it, with the places of base, experts and data: ``suture add`` and ``suture remove`` start from it."""


def model_card(model: "MultiTaskModel", facts: Facts, name: str) -> str:
    """Return the card in markdown, with the hub's front matter.

    Nothing in it is a claim: figures are those that were measured when the model was made, and say on what.
    """
    backbone, own = model.parameters
    lines = ["---", "library_name: suture", "tags:", "- model-merging", "- multi-task", "- representation-surgery", "---", ""]
    lines += [f"# {name}", "", f"One model for {len(model.tasks)} tasks: {', '.join(model.tasks)}.", ""]
    lines += [
        f"- Backbone: {model.backbone.architecture}, {backbone:,} parameters; {facts.family or 'experts of one base'}, "
        f"merged by {facts.merge or 'an unknown method'}.",
        f"- Per task: {own / len(model.tasks):,.0f} parameters on average ({own / len(model.tasks) / backbone:.2%} of the backbone): "
        f"head{', ' + facts.surgery if facts.surgery else ''}{', a share of the router' if model.router else ''}.",
        "- One pass through the backbone answers all tasks." if model.shares_passes else "- Every task takes a pass of its own.",
    ]
    lines += [f"- {facts.calibration}"] if facts.calibration else []
    lines += ["", *_table(facts, model.tasks)] if facts.tasks else []
    lines += ["", "## Classes", "", *(f"- {task}: {', '.join(map(_plain, model.classes(task)))}" for task in model.tasks)]
    lines += ["", "## Use", "", "```python", "from suture import MultiTaskModel", "", f'model = MultiTaskModel.from_pretrained("{name}")']
    lines += [f'model.predict(["…"], task="{model.tasks[0]}")']
    lines += ['model.predict(["…"], task="auto")  # which task it is, too'] if model.router is not None else []
    lines += ["```", "", "The backbone alone loads with its own library, from this folder: Suture is not needed for that."]
    lines += ["", "## Licences", "", *(f"- {each}" for each in facts.licences)] if facts.licences else []
    return "\n".join(lines) + "\n"


def _table(facts: Facts, tasks: Sequence[str]) -> list[str]:
    """Return the accuracies, in per cent, a row per task and their average."""
    routed = all(facts.tasks[task].routed is not None for task in tasks)
    header = ["task", "test samples", "individual expert", "merged", "this model"]
    header += ["task found", "this model, task not told"] if routed else []
    rows = []
    for task in tasks:
        own = facts.tasks[task]
        shares = [own.individual, own.merged, own.model, *([own.identified, own.routed] if routed else [])]
        rows.append([own.samples, *[100 * share for share in shares if share is not None]])
    means = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    body = [[_plain(task), f"{row[0]}", *(f"{value:.1f}" for value in row[1:])] for task, row in zip(tasks, rows, strict=True)]
    body.append(["**average**", "", *(f"**{value:.1f}**" for value in means[1:])])
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *body]
    return ["Accuracy in %, on test samples that nothing was fitted on unless the calibration says so.", ""] + [
        f"| {' | '.join(line)} |" for line in lines
    ]


def _plain(text: str) -> str:
    """Keep a name from ending its cell, or its line."""
    return " ".join(text.replace("|", "\\|").split())
