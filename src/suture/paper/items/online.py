"""Table 5 of Representation Surgery (Yang et al., 2024, arXiv 2402.02705): samples come one by one, and each is met once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor

from suture.engine import Step
from suture.evaluation import accuracy
from suture.experiment import pipeline
from suture.experiment.calibration import CalibrationRecipe, Mode
from suture.experiment.pipeline import SPLIT_OF
from suture.experiment.surgery_procedures import solving
from suture.paper.found import Found
from suture.paper.items.item import CLOSED, SURGERY, Item, Sweep, procedure_of
from suture.paper.measures import Bench, Measure, per_task
from suture.paper.merges import ADA_MERGING, AVERAGE_OF_WEIGHTS, TASK_ARITHMETIC, Merge
from suture.paper.published import published_rows
from suture.paper.steps import encoded
from suture.paper.study import MODES, WHOLE, Study
from suture.report.exhibits import AnyExhibit, Table
from suture.surgery import Prequential, Schedule, prequential_closed_form, prequential_surgery
from suture.surgery.pairs import Pair
from suture.surgery.prequential import Marks
from suture.types import Progress

SHARES = (1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100)
RANK = 16


@dataclass(frozen=True)
class Pass(Measure):
    """One pass over all of a stream: surgery learns from one sample at a time, and is judged before each and at every share.

    A stream of which a share is met is the beginning of the whole one, in the order that the seed draws: one pass does for all.
    """

    kind = "streams"
    form: str = SURGERY

    @property
    def told(self) -> Sequence[object]:
        """How it learns, and at which shares it is judged."""
        return (self.form, RANK, SWEEP.places_of(self.study))

    @property
    def title(self) -> str:
        """What is measured."""
        return f"Online: {self.form} of {self.recipe.merges[0].label}, all shares of the stream"

    @property
    def needs(self) -> Sequence[Step]:
        """The representations of the stream, and those that are measured."""
        return encoded(self.merged, self.recipe, SPLIT_OF[self.recipe.calibration.mode], "test")

    def measure(self, bench: Bench) -> dict[str, Any]:
        """Learn, and measure at every share, told by its samples of each task."""
        (seed,), label, weights = self.recipe.seeds, self.recipe.merges[0].label, self.merged.open(bench.store)
        pairs = pipeline.calibration_pairs(bench.setting, self.recipe, label, weights, bench.representations, seed)
        sizes = {task: len(own) for task, (own, _) in pairs.items()}
        asked = [CalibrationRecipe(samples=f"{share:g}%") for share in SWEEP.places_of(self.study)]
        marks = [{task: share.size(size) for task, size in sizes.items()} for share in asked]
        with bench.stage(self.title, max(sizes.values()) if self.form == SURGERY else sum(sizes.values())) as progress:
            learnt = self._learnt(pairs, seed, marks, progress)
        test, expert = bench.representations.shared(label, weights, "test"), bench.representations.individual("test")
        shares = []
        for surgery, mark in zip(learnt.marked, marks, strict=True):
            tasks = per_task(bench, {task: surgery(task, z) for task, z in test.items()}, expert, surgery)
            for task, before in self._prequential(bench, learnt.corrected, mark).items():
                tasks[task]["prequential"] = before
            shares.append({"samples": mark, "tasks": tasks})
        return {"shares": shares}

    def _learnt(self, pairs: Mapping[str, Pair], seed: int, marks: Marks, progress: Progress) -> Prequential:
        if self.form == SURGERY:
            return prequential_surgery(pairs, Schedule.online(RANK), seed, progress, marks=marks)
        (procedure,) = self.recipe.surgery
        told = solving(RANK, getattr(procedure, "shrinkage", None))
        return prequential_closed_form(pairs, told, progress=progress, marks=marks)

    def _prequential(self, bench: Bench, corrected: Mapping[str, Tensor], mark: Mapping[str, int]) -> dict[str, float]:
        """Return the accuracy on the samples until a mark, each before it was learnt from, of the tasks whose stream has labels."""
        (seed,), found = self.recipe.seeds, {}
        for task in bench.setting.tasks:
            split, z = task.split(SPLIT_OF[self.recipe.calibration.mode]), corrected[task.name][: mark[task.name]]
            if split.labels is not None:
                rows = pipeline.drawn_rows(len(split), len(z), seed, task.name)
                found[task.name] = accuracy(bench.setting.heads[task.name](z), split.labels[rows])
        return found


@dataclass(frozen=True)
class Stream(Measure):
    """What one pass over the recipe's calibration set comes to, which is a share of a stream."""

    kind = "stream"
    form: str = SURGERY

    @property
    def told(self) -> Sequence[object]:
        """How it learns."""
        return (self.form, RANK)

    @property
    def title(self) -> str:
        """What is measured."""
        return f"Online: {self.form} of {self.recipe.merges[0].label}, {self.recipe.calibration.samples or WHOLE} of the stream"

    @cached_property
    def whole(self) -> Pass:
        """The pass over all of the stream."""
        calibration = self.recipe.calibration.model_copy(update={"samples": None})
        return Pass(self.study, self.recipe.model_copy(update={"calibration": calibration}), self.form)

    @property
    def needs(self) -> Sequence[Step]:
        """The pass over all of the stream."""
        return [self.whole]

    def measure(self, bench: Bench) -> dict[str, Any]:
        """Return what was found when as many samples had come as the recipe asks for."""
        sizes = pipeline.calibration_sizes(bench.setting, self.recipe)
        tasks = next(share["tasks"] for share in Found(bench.store)[self.whole]["shares"] if share["samples"] == sizes)
        return {"tasks": tasks}


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
