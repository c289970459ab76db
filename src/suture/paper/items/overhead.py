"""What surgery costs when a model is used: time, memory and parameters beside the bare merge, which V1 and V2 differ in."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from suture.engine import Step
from suture.paper.found import Found
from suture.paper.items.item import CLOSED, DEEP, SURGERY, Item, procedure_of
from suture.paper.measures import Bench, Measure
from suture.paper.merges import TASK_ARITHMETIC, possible
from suture.paper.study import Study
from suture.report.exhibits import AnyExhibit, Table
from suture.representation import encode
from suture.surgery import represent
from suture.surgery.threads import one_thread

BATCHES, ROUNDS, WARMING = (1, 32), 15, 2
PROCEDURES = {
    "surgery": {"procedure": SURGERY, "rank": 16},
    "closed form": {"procedure": CLOSED, "rank": 16},
    "deep closed form": {"procedure": DEEP, "rank": 16},
}


@dataclass(frozen=True)
class Latency(Measure):
    """The time of a forward pass with surgery ÷ that without, measured in turns in one process."""

    kind = "latency"

    @property
    def told(self) -> Sequence[object]:
        """How it is measured."""
        return (BATCHES, ROUNDS)

    @property
    def title(self) -> str:
        """What is measured."""
        return f"Timing: {self.fit.title}"

    @property
    def needs(self) -> Sequence[Step]:
        """The surgery."""
        return (self.merged, self.fit)

    def measure(self, bench: Bench) -> dict[str, Any]:
        """Return the median ratio for one input and for a batch, and the bytes of a task's surgery and of the backbone."""
        (operation, _), weights = self.fit.open(bench.store), self.merged.open(bench.store)
        backbone, task = bench.setting.backbone(weights), bench.setting.tasks[0]
        ratios = {}
        with one_thread(), bench.stage(self.title, len(BATCHES) * (ROUNDS + WARMING)) as progress:
            for size in BATCHES:
                inputs, found = task.split("test").first(size).inputs, []
                pair = [partial(encode, backbone, inputs), partial(represent, operation, backbone, task.name, inputs)]
                for number in range(ROUNDS + WARMING):
                    # In turns: what comes second finds a warmer processor.
                    seconds = {place: _seconds(pair[place]) for place in ((0, 1) if number % 2 else (1, 0))}
                    found.append(seconds[1] / seconds[0])
                    progress(1)
                ratios[str(size)] = statistics.median(found[WARMING:])
        bare = sum(parameter.numel() * parameter.element_size() for parameter in backbone.model.parameters())
        return {"ratios": ratios, "bytes": bare, "surgery": 4 * operation.parameters(task.name)}


class Overhead(Item):
    """Latency and memory of the three kinds of surgery."""

    name = "overhead"
    title = "Overhead at inference"

    def measures(self, study: Study) -> list[Measure]:
        """Return the timings."""
        return [_latency(study, procedure) for procedure in possible(study, PROCEDURES, TASK_ARITHMETIC).values()]

    def exhibits(self, study: Study, found: Found) -> list[AnyExhibit]:
        """Return the table."""
        rows = []
        for label, procedure in possible(study, PROCEDURES, TASK_ARITHMETIC).items():
            own = found[_latency(study, procedure)]
            ratios = [f"{own['ratios'][str(size)]:.3f}" for size in BATCHES]
            share = len(study.tasks) * own["surgery"] / own["bytes"]
            rows.append([label, *ratios, f"{own['surgery'] / 1024:,.0f}", f"{share:.2%}"])
        notes = [
            study.told[0],
            f"Time: the median over {ROUNDS} rounds of a pass with surgery ÷ the one without, on one thread; the machine may be busy. "
            f"Memory: all {len(study.tasks)} tasks' surgery ÷ the backbone. Rank 16, {TASK_ARITHMETIC.name.lower()}.",
        ]
        header = ["surgery", *(f"time, {size} input{'s' if size > 1 else ''}" for size in BATCHES), "KiB a task", "memory, all tasks"]
        return [Table(name="overhead", title=self.title, header=header, rows=rows, notes=notes)]


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _latency(study: Study, procedure: Mapping[str, Any]) -> Latency:
    settings = TASK_ARITHMETIC.settings(study)
    return Latency(study, study.recipe(settings, procedure_of(study, procedure)))
