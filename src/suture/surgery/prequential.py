"""Surgery from a stream, judged before it learns: each batch is corrected with what the samples before it have taught (Dawid, 1984)."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from suture.errors import InvalidHyperparameter
from suture.surgery.closed_form import ClosedForm
from suture.surgery.fit import fit_surgery, without_diverged
from suture.surgery.module import Correction, Surgery
from suture.surgery.online import OnlineSurgery
from suture.surgery.pairs import Pair, check_pairs
from suture.surgery.schedule import Schedule
from suture.types import Progress, no_progress

EVERY = 64
"""A closed form is solved for anew whenever so many samples more have come, and at every power of two."""

Marks = Sequence[Mapping[str, int]]
"""Places on the way through a stream: how many samples of each task have come by then."""


@dataclass(frozen=True)
class Prequential:
    """What has come of one pass over a stream.

    ``corrected`` are each task's representations in their order, shape (n, k), each as surgery was before it met the sample;
    ``surgery`` is what was learnt of all, and ``marked`` what had been learnt at every mark that was asked for.
    """

    corrected: Mapping[str, Float[Tensor, "_ _"]]
    surgery: Surgery
    marked: Sequence[Surgery] = ()


def prequential_surgery(
    stream: Mapping[str, Pair], schedule: Schedule, seed: int, progress: Progress = no_progress, *, marks: Marks = ()
) -> Prequential:
    """Learn by gradient in one pass, as Table 5 of Representation Surgery (Yang et al., 2024, arXiv 2402.02705) does.

    ``stream`` maps each task to its representations under the merged backbone and under the expert, row by row in the order of their
    arrival; ``schedule`` takes one pass (:meth:`suture.surgery.Schedule.online`). Before each step the batch is corrected, then it is
    learnt from. So the first batch is left as it is, no row depends on those of its batch or later, and the surgery at the end is what
    :func:`suture.surgery.fit_surgery` returns. ``progress`` counts steps.

    A mark says, for every task, after how many samples its module is to be kept as it is then: at the end of a batch, or of the stream.
    A pass over only these samples returns the same surgery, and corrects them in the same way, so one pass does for streams of any
    length.

    Raises :class:`InvalidHyperparameter` for a schedule of more than one pass and for marks of other tasks, beyond the stream or within
    a batch, and what :func:`suture.surgery.fit_surgery` raises.

    >>> z = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    >>> schedule = Schedule.online(rank=2, batch_size=3)
    >>> found = prequential_surgery({"half": (z, 0.5 * z)}, schedule, seed=0, marks=[{"half": 6}])
    >>> (found.corrected["half"] == z).all(dim=1).tolist()
    [True, True, True, False, False, False, False, False]
    >>> short = prequential_surgery({"half": (z[:6], 0.5 * z[:6])}, schedule, seed=0)
    >>> bool((found.marked[0]("half", z) == short.surgery("half", z)).all())
    True
    """
    if not schedule.one_pass:
        raise InvalidHyperparameter("a stream is met once: take Schedule.online(), or another schedule with one_pass=True")
    check_pairs(stream)
    _check_marks(stream, marks, schedule.batch_size)
    corrected: dict[str, list[Tensor]] = {task: [] for task in stream}
    kept: list[dict[str, Correction]] = [{} for _ in marks]
    due = defaultdict[int, list[tuple[int, str]]](list)
    for place, mark in enumerate(marks):
        for task in stream:
            due[schedule.iterations_for(mark[task])].append((place, task))

    def before(iteration: int, surgery: Surgery) -> None:
        start = iteration * schedule.batch_size
        for task, (merged, _) in stream.items():
            if start < len(merged):
                corrected[task].append(surgery(task, merged[start : start + schedule.batch_size]))
        for place, task in due[iteration]:
            kept[place][task] = surgery.final[task]

    surgery = fit_surgery(stream, replace(schedule, look_every=1), seed, progress, watch=before)
    # What diverged on the way stays so to the end, where the fit says it.
    marked = [without_diverged(Surgery({task: own[task] for task in stream}))[0] for own in kept]
    return Prequential({task: torch.cat(rows) for task, rows in corrected.items()}, surgery, marked)


def prequential_closed_form(
    stream: Mapping[str, Pair],
    settings: ClosedForm | None = None,
    batch_size: int = 1,
    progress: Progress = no_progress,
    *,
    marks: Marks = (),
) -> Prequential:
    """Learn in closed form, from the moments of the samples so far (:class:`suture.surgery.OnlineSurgery`).

    Batches come as in :func:`prequential_surgery`, ``batch_size`` samples each. Solving costs far more than taking a sample in, so it is
    done after the batches in which the number of samples reaches 1, 2, 4, 8, … or a multiple of 64; until the next, batches are
    corrected by what was found then. Nothing is drawn. The surgery at the end is that of all samples, and that of a mark, as
    :func:`prequential_surgery` has them, is that of all samples until then. ``progress`` counts samples.

    Raises :class:`InvalidHyperparameter` for a ``batch_size`` below 1 and for marks that :func:`prequential_surgery` refuses, and what
    :func:`suture.surgery.fit_closed_form` raises.

    >>> z = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    >>> found = prequential_closed_form({"half": (z, 0.5 * z + 1)}, ClosedForm(rank=4))
    >>> error = (found.corrected["half"] - 0.5 * z - 1).abs().mean(dim=1)
    >>> bool(error[:8].mean() > 10 * error[-8:].mean())
    True
    """
    if batch_size < 1:
        raise InvalidHyperparameter(f"batch_size must be at least 1, not {batch_size}")
    check_pairs(stream)
    _check_marks(stream, marks, batch_size)
    corrected, kept = {}, dict[str, dict[int, Correction]]()
    for task, pair in stream.items():
        ends = {len(pair[0]), *(mark[task] for mark in marks)}
        corrected[task], kept[task] = _passed(pair, settings, batch_size, ends, progress)
    final = Surgery({task: own[len(stream[task][0])] for task, own in kept.items()})
    return Prequential(corrected, final, [Surgery({task: own[mark[task]] for task, own in kept.items()}) for mark in marks])


def _passed(
    pair: Pair, settings: ClosedForm | None, batch_size: int, ends: Collection[int], progress: Progress
) -> tuple[Tensor, dict[int, Correction]]:
    """Return one task's rows, each corrected before it was learnt from, and the closed form of the samples until each of the ends."""
    online, now = OnlineSurgery(settings), Correction.identity(pair[0].shape[1], "none")
    rows, kept, seen = list[Tensor](), dict[int, Correction](), 0
    for merged, expert in zip(*(side.split(batch_size) for side in pair), strict=True):
        rows.append(now(merged))
        online.see("", merged, expert)
        seen, before = seen + len(merged), seen
        if due := _due(before, seen):
            now = online.surgery().final[""]
        if seen in ends:  # an end changes nothing of how the rows after it are corrected
            kept[seen] = now if due else online.surgery().final[""]
        progress(len(merged))
    return torch.cat(rows), kept


def _check_marks(stream: Mapping[str, Pair], marks: Marks, batch_size: int) -> None:
    """Raise :class:`InvalidHyperparameter` for marks that are not at the ends of batches of all tasks."""
    for mark in marks:
        if mark.keys() != stream.keys():
            raise InvalidHyperparameter(f"a mark says a number of samples of {', '.join(stream)}, not of {', '.join(mark) or 'none'}")
        for task, samples in mark.items():
            there = len(stream[task][0])
            if not (0 < samples <= there and (samples % batch_size == 0 or samples == there)):
                raise InvalidHyperparameter(
                    f"task {task!r}: a mark is at the end of a batch of {batch_size}, or of all {there} samples, not after {samples}"
                )


def _due(before: int, after: int) -> bool:
    """Say whether a number of samples reaches a power of two, or a multiple of 64.

    >>> [after for after in range(1, 200) if _due(after - 1, after)]
    [1, 2, 4, 8, 16, 32, 64, 128, 192]
    """
    return after.bit_length() > before.bit_length() or after // EVERY > before // EVERY
