"""Surgery from a stream, judged before it learns: each batch is corrected with what the samples before it have taught (Dawid, 1984)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from suture.errors import InvalidHyperparameter
from suture.surgery.closed_form import ClosedForm
from suture.surgery.fit import fit_surgery
from suture.surgery.module import Correction, Surgery
from suture.surgery.online import OnlineSurgery
from suture.surgery.pairs import Pair, check_pairs
from suture.surgery.schedule import Schedule
from suture.types import Progress, no_progress

EVERY = 64
"""A closed form is solved for anew whenever so many samples more have come, and at every power of two."""


@dataclass(frozen=True)
class Prequential:
    """What has come of one pass over a stream.

    ``corrected`` are each task's representations in their order, shape (n, k), each as surgery was before it met the sample;
    ``surgery`` is what was learnt of all.
    """

    corrected: Mapping[str, Float[Tensor, "_ _"]]
    surgery: Surgery


def prequential_surgery(stream: Mapping[str, Pair], schedule: Schedule, seed: int, progress: Progress = no_progress) -> Prequential:
    """Learn by gradient in one pass, as Table 5 of Representation Surgery (Yang et al., 2024, arXiv 2402.02705) does.

    ``stream`` maps each task to its representations under the merged backbone and under the expert, row by row in the order of their
    arrival; ``schedule`` takes one pass (:meth:`suture.surgery.Schedule.online`). Before each step the batch is corrected, then it is
    learnt from. So the first batch is left as it is, no row depends on those of its batch or later, and the surgery at the end is what
    :func:`suture.surgery.fit_surgery` returns. ``progress`` counts steps.

    Raises :class:`InvalidHyperparameter` for a schedule of more than one pass, and what :func:`suture.surgery.fit_surgery` raises.

    >>> z = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    >>> found = prequential_surgery({"half": (z, 0.5 * z)}, Schedule.online(rank=2, batch_size=3), seed=0)
    >>> (found.corrected["half"] == z).all(dim=1).tolist()
    [True, True, True, False, False, False, False, False]
    """
    if not schedule.one_pass:
        raise InvalidHyperparameter("a stream is met once: take Schedule.online(), or another schedule with one_pass=True")
    corrected: dict[str, list[Tensor]] = {task: [] for task in stream}

    def before(iteration: int, surgery: Surgery) -> None:
        start = iteration * schedule.batch_size
        for task, (merged, _) in stream.items():
            if start < len(merged):
                corrected[task].append(surgery(task, merged[start : start + schedule.batch_size]))

    surgery = fit_surgery(stream, replace(schedule, look_every=1), seed, progress, watch=before)
    return Prequential({task: torch.cat(rows) for task, rows in corrected.items()}, surgery)


def prequential_closed_form(
    stream: Mapping[str, Pair], settings: ClosedForm | None = None, batch_size: int = 1, progress: Progress = no_progress
) -> Prequential:
    """Learn in closed form, from the moments of the samples so far (:class:`suture.surgery.OnlineSurgery`).

    Batches come as in :func:`prequential_surgery`, ``batch_size`` samples each. Solving costs far more than taking a sample in, so it is
    done after the batches in which the number of samples reaches 1, 2, 4, 8, … or a multiple of 64; until the next, batches are
    corrected by what was found then. Nothing is drawn. The surgery at the end is that of all samples. ``progress`` counts samples.

    Raises :class:`InvalidHyperparameter` for a ``batch_size`` below 1, and what :func:`suture.surgery.fit_closed_form` raises.

    >>> z = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    >>> found = prequential_closed_form({"half": (z, 0.5 * z + 1)}, ClosedForm(rank=4))
    >>> error = (found.corrected["half"] - 0.5 * z - 1).abs().mean(dim=1)
    >>> bool(error[:8].mean() > 10 * error[-8:].mean())
    True
    """
    if batch_size < 1:
        raise InvalidHyperparameter(f"batch_size must be at least 1, not {batch_size}")
    width, corrected, final = check_pairs(stream), {}, {}
    for task, pair in stream.items():
        online, now, rows = OnlineSurgery(settings), Correction.identity(width, "none"), list[Tensor]()
        for merged, expert in zip(*(side.split(batch_size) for side in pair), strict=True):
            rows.append(now(merged))
            before = online.seen.get(task, 0)
            online.see(task, merged, expert)
            if _due(before, before + len(merged)):
                now = online.surgery().final[task]
            progress(len(merged))
        corrected[task], final[task] = torch.cat(rows), online.surgery().final[task]
    return Prequential(corrected, Surgery(final))


def _due(before: int, after: int) -> bool:
    """Say whether a number of samples reaches a power of two, or a multiple of 64.

    >>> [after for after in range(1, 200) if _due(after - 1, after)]
    [1, 2, 4, 8, 16, 32, 64, 128, 192]
    """
    return after.bit_length() > before.bit_length() or after // EVERY > before // EVERY
