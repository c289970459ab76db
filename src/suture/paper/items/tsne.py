"""Fig. 1–3 and 18–29 of Representation Surgery (Yang et al., 2024, arXiv 2402.02705): t-SNE of merged and individual representations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from suture.checkpoints import Checkpoint
from suture.engine import Step
from suture.evaluation import INDIVIDUAL
from suture.experiment.reporting import PLOTTED_SAMPLES, plane_of
from suture.paper.found import Found
from suture.paper.items.item import DEEP, SURGERY, Item, procedure_of
from suture.paper.measures import Bench, Measure
from suture.paper.merges import FOUR, Merge, possible
from suture.paper.steps import Fit, encoded
from suture.paper.study import Study
from suture.report.exhibits import AnyExhibit, Cloud, Plane
from suture.surgery import Operation, represent


@dataclass(frozen=True)
class Picture(Measure):
    """Some test samples under the experts, a merge, and the merge after each of the recipe's surgeries, in one plane."""

    kind = "picture"
    procedures: tuple[tuple[str, Any], ...] = ()
    """Names, and recipes with one surgery each."""

    @property
    def told(self) -> Sequence[object]:
        """How many samples, and which surgeries."""
        return (PLOTTED_SAMPLES, [[name, Fit(self.study, recipe).key] for name, recipe in self.procedures])

    @property
    def title(self) -> str:
        """What is drawn."""
        return f"t-SNE of {self.recipe.merges[0].label}"

    @property
    def needs(self) -> Sequence[Step]:
        """The surgeries, and the representations."""
        fits = [Fit(self.study, recipe) for _, recipe in self.procedures]
        return [*fits, *encoded(self.merged, self.recipe, "test")]

    def measure(self, bench: Bench) -> dict[str, Any]:
        """Return the coordinates, and which samples were classified right."""
        label, weights = self.recipe.merges[0].label, self.merged.open(bench.store)
        models: dict[str, Mapping[str, Tensor]] = {
            INDIVIDUAL: bench.representations.individual("test"),
            "merged": bench.representations.shared(label, weights, "test"),
        }
        for name, recipe in self.procedures:
            operation, _ = Fit(self.study, recipe).open(bench.store)
            models[name] = self._after(bench, operation, weights)
        plane = plane_of(bench.setting, models, self.study.seeds[0])
        return {"clouds": [cloud.model_dump() for cloud in plane.clouds]}

    def _after(self, bench: Bench, operation: Operation, weights: Checkpoint) -> dict[str, Tensor]:
        """Return the samples' representations after an operation; of no more samples, as it may take passes of its own."""
        backbone, found = bench.setting.backbone(weights), {}
        for task in bench.setting.tasks:
            inputs = task.split("test").first(PLOTTED_SAMPLES).inputs
            found[task.name] = represent(operation, backbone, task.name, inputs)
        return found


class Tsne(Item):
    """A plane for each of the papers' four merges."""

    name = "tsne"
    title = "t-SNE of representations, with and without surgery (Fig. 1–3, 18–29)"

    def measures(self, study: Study) -> list[Measure]:
        """Return the planes."""
        return [_picture(study, merge) for merge in FOUR]

    def exhibits(self, study: Study, found: Found) -> list[AnyExhibit]:
        """Return the planes."""
        notes = [
            study.told[0],
            f"The first {PLOTTED_SAMPLES} test samples of every task; surgery held-out, rank 16; scikit-learn's t-SNE.",
        ]
        return [
            Plane(
                name=f"tsne-{place}-{merge.method['method']}",
                title=f"Representations: {merge.name}",
                reference=INDIVIDUAL,
                clouds=[Cloud(**cloud) for cloud in found[_picture(study, merge)]["clouds"]],
                notes=notes,
            )
            for place, merge in enumerate(FOUR, 1)
        ]


def _picture(study: Study, merge: Merge) -> Picture:
    settings = merge.settings(study)
    named = {"+ surgery": {"procedure": SURGERY, "rank": 16}, "+ deep closed form": {"procedure": DEEP, "rank": 16}}
    measured = possible(study, named, merge)
    recipes = tuple((name, study.recipe(settings, procedure_of(study, procedure))) for name, procedure in measured.items())
    return Picture(study, recipes[0][1], recipes)
