"""Table 7 of Representation Surgery (Yang et al., 2024, arXiv 2402.02705): what surgery costs in parameters."""

from suture.paper.found import Found
from suture.paper.items.item import CLOSED, DEEP, SURGERY, Item, baseline, operated
from suture.paper.measures import Measure
from suture.paper.merges import TASK_ARITHMETIC
from suture.paper.study import DEEPER, Study
from suture.report.exhibits import AnyExhibit, Table

SIZES = {SURGERY: (4, 16, 64), CLOSED: (4, 16, 64), DEEP: (16,)}
NAMES = {SURGERY: "surgery", CLOSED: "closed form", DEEP: "deep closed form"}


class Cost(Item):
    """Parameters, counted in what was fitted."""

    name = "cost"
    title = "Parameters (Table 7)"

    def measures(self, study: Study) -> list[Measure]:
        """Return one fit of every kind and size, and the backbone."""
        return [*baseline(study), *(measure for measure, *_ in self._fits(study))]

    def _fits(self, study: Study) -> list[tuple[Measure, str, int]]:
        """Return each fit with its name and rank."""
        return [
            (operated(study, TASK_ARITHMETIC, {"procedure": procedure, "rank": rank}, seeds=study.seeds[:1])[0], NAMES[procedure], rank)
            for procedure, ranks in SIZES.items()
            if study.depth or procedure not in DEEPER
            for rank in ranks
        ]

    def exhibits(self, study: Study, found: Found) -> list[AnyExhibit]:
        """Return the table."""
        one = int(found[baseline(study)[0]]["parameters"])
        models = len(study.tasks)
        rows = [["one backbone", "", f"{one:,}", f"{models * one:,}", "", ""]]
        for measure, name, rank in self._fits(study):
            own = [int(each["parameters"]) for each in found[measure]["tasks"].values()]
            each, whole = max(own), sum(own)
            rows.append([name, str(rank), f"{each:,}", f"{whole:,}", f"{whole / one:.3%}", f"{whole / (models * one):.3%}"])
        header = ["part", "rank", "of one task", "of all tasks", "÷ one backbone", f"÷ {models} backbones"]
        notes = [
            study.told[0],
            f"A merged model is one backbone, and its surgery is what all {models} tasks add to it: the share of one backbone is the cost. "
            f"The paper's Table 7 divides by {models} models (for CLIP with their text towers), the last column here.",
        ]
        return [Table(name="cost", title=self.title, header=header, rows=rows, notes=notes)]
