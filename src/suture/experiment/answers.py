"""Test samples without labels: what the expert answers stands in their place, and accuracy becomes agreement with it."""

from dataclasses import replace

from suture.experiment.recipe import Recipe
from suture.experiment.setting import Setting
from suture.representation import encode_cached
from suture.tasks import Split, Task
from suture.types import Stage, silent


def answered(setting: Setting, stage: Stage = silent) -> Setting:
    """Return the setting with labels for all test samples: those of a task that has none are the classes that its expert gives them.

    What is measured there as accuracy is the share of samples to which a model gives the expert's class; the expert's own is 1.
    """
    missing = [task for task in setting.tasks if task.split("test").labels is None]
    if not missing:
        return setting
    found: dict[str, Task] = {}
    with stage("Asking the experts, for want of labels", sum(len(task.split("test")) for task in missing)) as progress:
        for task in missing:
            inputs = task.split("test").inputs
            z = encode_cached(setting.backbone(setting.experts[task.name]), inputs, progress)
            answers = setting.heads[task.name](z).argmax(dim=1)
            found[task.name] = replace(task, splits={**task.splits, "test": Split(inputs, answers)})
    return replace(setting, tasks=[found.get(task.name, task) for task in setting.tasks])


def told_of_answers(recipe: Recipe) -> list[str]:
    """Return what a reader of figures must know where experts' answers stand for labels; nothing where none do.

    >>> told_of_answers(Recipe(suite="nlp8", merges=["ties"]))
    []
    """
    if not recipe.unlabelled:
        return []
    return [
        f"Test samples without labels ({', '.join(recipe.unlabelled)}): accuracy there is agreement, the share of samples to which "
        "a model gives the expert's class; how good the experts are, it does not tell."
    ]
