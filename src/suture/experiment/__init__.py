"""Floor 6: recipes, and the experiments that they describe."""

from suture.experiment.answers import told_of_answers
from suture.experiment.citing import bibliography
from suture.experiment.recipe import Recipe, read_recipe, template_file, within_budget
from suture.experiment.runner import Outcome, run
from suture.experiment.shipping import add_task, build, recipe_of, remove_task
from suture.experiment.stages import (
    demo_recipe_file,
    features_only,
    measure_only,
    merge_only,
    named_recipe,
    operate_on_features,
    operate_only,
)

__all__ = [
    "Outcome",
    "Recipe",
    "add_task",
    "bibliography",
    "build",
    "demo_recipe_file",
    "features_only",
    "measure_only",
    "merge_only",
    "named_recipe",
    "operate_on_features",
    "operate_only",
    "read_recipe",
    "recipe_of",
    "remove_task",
    "run",
    "template_file",
    "told_of_answers",
    "within_budget",
]
