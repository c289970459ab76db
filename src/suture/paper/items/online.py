"""Table 5 of Representation Surgery (Yang et al., 2024, arXiv 2402.02705): samples come one by one, and each is met once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from suture.engine import Step
from suture.evaluation import accuracy
from suture.experiment import pipeline
from suture.experiment.calibration import Mode
from suture.experiment.pipeline import SPLIT_OF
from suture.experiment.surgery_procedures import solving
from suture.paper.found import Found
from suture.paper.items.item import CLOSED, SURGERY, Item, Sweep, procedure_of
from suture.paper.measures import Bench, Measure, per_task
from suture.paper.merges import ADA_MERGING, AVERAGE_OF_WEIGHTS, TASK_ARITHMETIC, Merge
from suture.paper.published import published_rows
from suture.paper.steps import encoded
from suture.paper.study import MODES, Study
from suture.report.exhibits import AnyExhibit, Table
from suture.surgery import Prequential, Schedule, prequential_closed_form, prequential_surgery

SHARES = (1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100)
RANK = 16


@dataclass(frozen=True)
class Stream(Measure):
    """Surgery learnt in one pass over the recipe's calibration set, one sample at a time, judged before each and at the end."""

    kind = "stream"
    form: str = SURGERY

    @property
    def told(self) -> Sequence[object]:
        """How it learns."""
        return (self.form, RANK)

    @property
    def title(self) -> str:
        """What is measured."""
        return f"Online: {self.form} of {self.recipe.merges[0].label}, {self.recipe.calibration.samples} of the stream"

    @property
    def needs(self) -> Sequence[Step]:
        """The representations of the stream, and those that are measured."""
        return encoded(self.merged, self.recipe, SPLIT_OF[self.recipe.calibration.mode], "test")

    def measure(self, bench: Bench) -> dict[str, Any]:
        """Learn, and measure on the test split; where the stream has labels, on the stream too, each sample before it was learnt from."""
        (seed,), label, weights = self.recipe.seeds, self.recipe.merges[0].label, self.merged.open(bench.store)
        pairs = pipeline.calibration_pairs(bench.setting, self.recipe, label, weights, bench.representations, seed)
        with bench.stage(self.title, max(len(own) for own, _ in pairs.values())) as progress:
            learnt = self._learnt(pairs, seed)
            progress(max(len(own) for own, _ in pairs.values()))
        test, expert = bench.representations.shared(label, weights, "test"), bench.representations.individual("test")
        after = {task: learnt.surgery(task, z) for task, z in test.items()}
        found = per_task(bench, after, expert, learnt.surgery)
        for task, before in self._prequential(bench, learnt, seed).items():
            found[task]["prequential"] = before
        return {"tasks": found}

    def _learnt(self, pairs: Mapping[str, tuple[Tensor, Tensor]], seed: int) -> Prequential:
        if self.form == SURGERY:
            return prequential_surgery(pairs, Schedule.online(RANK), seed)
        (procedure,) = self.recipe.surgery
        return prequential_closed_form(pairs, solving(RANK, getattr(procedure, "shrinkage", None)))

    def _prequential(self, bench: Bench, learnt: Prequential, seed: int) -> dict[str, float]:
        """Return the accuracy on the stream of the tasks whose stream has labels."""
        found = {}
        for task in bench.setting.tasks:
            split, z = task.split(SPLIT_OF[self.recipe.calibration.mode]), learnt.corrected[task.name]
            if split.labels is not None:
                rows = pipeline.drawn_rows(len(split), len(z), seed, task.name)
                found[task.name] = accuracy(bench.setting.heads[task.name](z), split.labels[rows])
        return found


def _at(study: Study, merge: Merge, procedure: Mapping[str, Any], mode: Mode, place: int | float) -> list[Measure]:
    told = procedure_of(study, procedure)
    recipes = [study.recipe(merge.settings(study), told, mode=mode, seed=seed, samples=f"{place:g}%") for seed in study.seeds]
    return [Stream(study, recipe, form=procedure["procedure"]) for recipe in recipes]


SWEEP = Sweep(
    SHARES,
    {"surgery": {"procedure": SURGERY}, "closed form": {"procedure": CLOSED}},
    (AVERAGE_OF_WEIGHTS, TASK_ARITHMETIC, ADA_MERGING),
    MODES,
    _at,
    "{:g} %",
    quick=(1, 10, 100),
)


class Online(Item):
    """1 to 100 % of a stream, one sample at a time, each once."""

    name = "online"
    title = "Online surgery: accuracy over the share of the stream (Table 5)"

    def measures(self, study: Study) -> list[Measure]:
        """Return the sweep's."""
        return SWEEP.measures(study)

    def exhibits(self, study: Study, found: Found) -> list[AnyExhibit]:
        """Return the accuracy on the test split after a share of the stream, and that on the stream itself before learning from it."""
        notes = [
            *study.told,
            f"One sample a step, each met once. Rank {RANK}. Held-out, the stream are the first {study.pool} samples of the calibration "
            "split; transductive, the test split.",
        ]
        exhibits: list[AnyExhibit] = [SWEEP.table(study, found, "online", self.title, notes)]
        exhibits += [
            SWEEP.lines(study, found, f"online-{mode}", self.title, "share of the stream, %", mode, logarithmic=False) for mode in MODES
        ]
        return [*exhibits, *_prequential_table(study, found, notes), *published_rows(study, "5", "online-published")]


def _prequential_table(study: Study, found: Found, notes: Sequence[str]) -> list[Table]:
    """Return the accuracy on the stream, of those whose stream has labels."""
    rows = []
    for merge, mode, label, places in SWEEP.rows(study):
        if all("prequential" in own for own in found[places[0][0]]["tasks"].values()):
            cells = [f"{found.spread(place, 'prequential', scale=100.0):.1f}" for place in places]
            rows.append([merge.name, label, mode, *cells])
    if not rows:
        return []
    told = [*notes, "Prequential: the accuracy on the samples of the stream, each judged before it was learnt from; average over tasks, %."]
    header = ["merge", "surgery", "calibration", *SWEEP.headers(study)]
    return [Table(name="online-prequential", title="Online surgery: prequential accuracy", header=header, rows=rows, notes=told)]
