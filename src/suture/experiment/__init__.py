"""Floor 5: recipes, and the experiments that they describe."""

from suture.experiment.paper import paper_base, paper_recipe
from suture.experiment.recipe import Recipe, read_recipe, template_file, within_budget
from suture.experiment.runner import Outcome, run
from suture.experiment.stages import demo_recipe_file, measure_only, merge_only, operate_only

__all__ = [
    "Outcome",
    "Recipe",
    "demo_recipe_file",
    "measure_only",
    "merge_only",
    "operate_only",
    "paper_base",
    "paper_recipe",
    "read_recipe",
    "run",
    "template_file",
    "within_budget",
]
