"""Fitting the surgery modules without labels (Yang et al., 2024, arXiv 2402.02705, Eq. 2), all tasks in one batched fit."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from suture.errors import SutureWarning
from suture.randomness import generator_for, shuffled_rows
from suture.surgery.closed_form import ClosedForm, fit_closed_form
from suture.surgery.module import Activation, Correction, Surgery, operate, start_of_fit
from suture.surgery.pairs import Pair, check_pairs
from suture.surgery.resuming import State, identity_of, read_state, write_state
from suture.surgery.schedule import Schedule, split_held_out
from suture.surgery.threads import one_thread
from suture.types import Progress, no_progress

Watch = Callable[[int, Surgery], None]
"""Called with the number of iterations done and the modules as they are then."""

EPSILON = 1e-8
SAVE_EVERY = 100
"""Iterations after which a fit that is to be resumable writes its state."""


def fit_surgery(
    calibration: Mapping[str, Pair],
    schedule: Schedule,
    seed: int,
    progress: Progress = no_progress,
    *,
    watch: Watch | None = None,
    resume: Path | None = None,
) -> Surgery:
    """Return the modules that bring the merged representations to the experts': min Σ_t (1/|B|k) ‖Ẑ_merged − Z_expert‖₁.

    So it is in the paper, with Ẑ = Z − ReLU(Z W_downᵀ) W_upᵀ. The schedule may ask for another: no ReLU, a shift b that is added to Ẑ,
    the squared L2 norm in place of L1, or the closed form (:mod:`suture.surgery.closed_form`) to start from in place of the identity.

    ``calibration`` maps each task to its representations under the merged backbone and under the expert, row by row of the same
    unlabelled inputs. A seed fixes start, batches and held-out samples of each task by its name: what other tasks are fitted beside
    it does not change a task's module (but for rounding, and but for stale momentum). ``progress`` counts steps; those that an early
    stop saves count as done.

    With ``schedule.held_out`` each task's module is that of the look at which its held-out loss was least, the first being at the start.
    Where the share comes to fewer than 8 samples a task is trained and looked at on all; no more than 512 are held out. A module that
    diverges is the identity in the result, with a :class:`SutureWarning`.

    ``watch`` is called every ``schedule.look_every`` iterations, at the start (0) and at the end, with a copy of the modules, which for
    a task that has ended are its result. With ``resume`` the state is written to that file every 100 iterations; a killed fit goes on
    from there to the same bits, and calls ``watch`` only for the looks to come. The file is removed at the end.

    Raises :class:`suture.errors.DataError` for no samples, or representations that do not belong together; with ``resume``
    :class:`suture.errors.OutputExists` when the file is of another fit (other samples, schedule or seed) or of something else,
    :class:`suture.errors.CorruptCheckpoint` when it is spoilt and :class:`suture.errors.OutputError` when it cannot be written.

    >>> z = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    >>> surgery = fit_surgery({"half": (z, 0.5 * z)}, Schedule(rank=32, iterations=100, learning_rate=1e-2), seed=0)
    >>> bool((surgery("half", z) - 0.5 * z).abs().mean() < 0.25 * (0.5 * z).abs().mean())
    True
    """
    with one_thread():
        fit, state = _Fit.of(calibration, schedule, seed)
        if resume is None:
            fit.run(state, 0, progress, watch)
        else:
            identity = identity_of(calibration, schedule, seed)
            state, start = read_state(resume, identity) or (state, 0)
            fit.run(state, start, progress, watch, lambda iteration: write_state(resume, state, iteration, identity))
            resume.unlink(missing_ok=True)
        found, lost = without_diverged(fit.surgery(state))
    if lost:
        warnings.warn(f"the fit of surgery diverged, so nothing is done for: {', '.join(lost)}", SutureWarning, stacklevel=2)
    return found


def without_diverged(surgery: Surgery) -> tuple[Surgery, Sequence[str]]:
    """Return a surgery in which a task's module that diverged is the identity, and the tasks whose modules did."""
    lost = [task for task, module in surgery.final.items() if not all(bool(part.isfinite().all()) for part in _parts_of(module))]
    final = dict(surgery.final)
    for task in lost:
        final[task] = _module([torch.zeros_like(part) for part in _parts_of(final[task])], final[task].activation)
    return Surgery(final), lost


def _parts_of(module: Correction) -> list[Tensor]:
    return [part for part in (module.down, module.up, module.shift) if part is not None]


def _module(parts: Sequence[Tensor], activation: Activation) -> Correction:
    """Return the module of two matrices and, if there is one, a shift; it shares memory with them."""
    return Correction(parts[0], parts[1], parts[2].flatten() if len(parts) > 2 else None, activation)


@dataclass(frozen=True)
class _Fit:
    """What a fit goes by, and never changes but for the batches, which are drawn."""

    tasks: tuple[str, ...]
    schedule: Schedule
    merged: Float[Tensor, "n k"]
    """All tasks' samples to train on, one after another, and a row of zeros: Φ(0) = 0, so it adds nothing to a loss."""
    expert: Float[Tensor, "n k"]
    batches: Iterator[Int[Tensor, "s t b"]]
    """An iteration's rows of these; −1 where a batch is not full."""
    held: Sequence[Pair]
    """The samples to look at."""
    ends: Sequence[int]
    """How many iterations each task takes at most."""

    @classmethod
    def of(cls, calibration: Mapping[str, Pair], schedule: Schedule, seed: int) -> tuple["_Fit", State]:
        """Return it with the start of the fit."""
        width, generators = check_pairs(calibration), [generator_for(seed, task) for task in calibration]
        starts = [start_of_fit(width, schedule.rank, own, schedule.activation, shift=schedule.shift) for own in generators]
        parts = [split_held_out(len(pair[0]), schedule, generator_for(seed, task, "held-out")) for task, pair in calibration.items()]
        pairs = zip(calibration.values(), parts, strict=True)
        chosen = [[(merged[rows].float(), expert[rows].float()) for rows in part] for (merged, expert), part in pairs]
        train, held = zip(*chosen, strict=True)
        if schedule.start == "closed_form":
            starts = [_solved(pair, start) for pair, start in zip(train, starts, strict=True)]
        merged, expert = (torch.cat([*(pair[side] for pair in train), torch.zeros(1, width)]) for side in (0, 1))
        sizes = [len(pair[0]) for pair in train]
        batches, ends = _batches(sizes, schedule, generators), [schedule.iterations_for(size) for size in sizes]
        return cls(tuple(calibration), schedule, merged, expert, batches, held, ends), State.of(starts)

    def run(
        self, state: State, start: int, progress: Progress, watch: Watch | None, keep: Callable[[int], None] = lambda _iteration: None
    ) -> None:
        """Take the state, after so many iterations, to the end of the fit; ``keep`` is called every so often, to write it down."""
        per_iteration, end = self.schedule.steps_per_iteration, max(self.ends)
        progress(start * per_iteration)
        for iteration in range(end + 1):
            batches = next(self.batches)  # a fit that is resumed draws again what was drawn before
            if iteration < start:
                continue
            if iteration % SAVE_EVERY == 0:
                keep(iteration)
            ended = torch.tensor([iteration >= own for own in self.ends])
            if iteration % self.schedule.look_every == 0 or iteration == end:
                if self.schedule.held_out:
                    self.look(state, iteration, ended)
                if watch:
                    watch(iteration, self.surgery(state))
            state.running &= ~ended
            if not state.running.any():
                progress((end - iteration) * per_iteration)
                return
            self.iterate(state, batches, first=iteration == 0)
            progress(per_iteration)

    def surgery(self, state: State) -> Surgery:
        """Return a copy of the modules as they are."""
        return Surgery(dict(zip(self.tasks, self.modules([part.clone() for part in state.parts]), strict=True)))

    def modules(self, parts: Sequence[Tensor]) -> list[Correction]:
        """Return every task's module; they share memory with the parts."""
        return [_module(own, self.schedule.activation) for own in zip(*parts, strict=True)]

    def look(self, state: State, iteration: int, ended: Bool[Tensor, " t"]) -> None:
        """Keep the states that are the best so far on the held-out samples; end what has not gained for long, with its best state."""
        # Task by task, as the rounding of a stacked product may depend on its size, and with it which state is the best.
        looked_at = zip(self.modules(state.parts), self.held, strict=True)
        losses = torch.tensor([float(self.schedule.cost(module(z) - own).mean()) for module, (z, own) in looked_at], dtype=torch.float64)
        better = losses < state.best_loss  # of an ended task they are equal
        state.best_loss[better], state.best_at[better] = losses[better], iteration
        for best, part in zip(state.best, state.parts, strict=True):
            best[better] = part[better]
        done = state.running & (ended | (iteration - state.best_at >= self.schedule.patience))
        for best, part in zip(state.best, state.parts, strict=True):
            part[done] = best[done]
        state.running &= ~done

    def iterate(self, state: State, batches: Int[Tensor, "s t b"], *, first: bool) -> None:
        """Take every task's steps of one iteration."""
        if not self.schedule.stale_momentum:
            for rows in batches:
                # Adam is blind to a task's share of the sum: each task takes the steps it would take alone.
                _adam_step(state, self.gradients(rows, state.parts), self.schedule)
            return
        for place, own in enumerate(batches.unbind(1)):
            # A module that has had no gradient yet is none of Adam's business: its count of steps begins with its own first.
            begun = slice(place + 1) if first else slice(None)
            for rows in own:
                padded = [torch.zeros_like(part) for part in state.parts]
                for whole, part in zip(padded, self.gradients(rows, [part[place] for part in state.parts]), strict=True):
                    whole[place] = part
                _adam_step(state, padded, self.schedule, begun)

    def gradients(self, rows: Int[Tensor, "*t b"], parts: Sequence[Float[Tensor, "*t _ _"]]) -> list[Float[Tensor, "*t _ _"]]:
        """Return those of the mean loss over each task's batch, by each part."""
        down, up, *shift = parts = [part.detach().requires_grad_() for part in parts]
        error = operate(self.merged[rows], down, up, self.schedule.activation) - self.expert[rows]
        real = rows >= 0
        if shift:
            error = error + shift[0] * real[..., None]  # a row of zeros is still to add nothing
        numbers = real.sum(-1).clamp(min=1) * error.shape[-1]
        found = torch.autograd.grad((self.schedule.cost(error).sum(dim=(-2, -1)) / numbers).sum(), parts)
        return [each.contiguous() for each in found]  # they come transposed, which is slow to go through


def _solved(pair: Pair, start: Correction) -> Correction:
    """Return the closed form of some samples; where it does with a lower rank, the rest is as at the usual start."""
    found = fit_closed_form({"": pair}, ClosedForm(min(start.rank, start.width))).final[""]
    down, up = start.down.clone(), start.up.clone()
    down[: found.rank], up[:, : found.rank] = found.down, found.up
    return Correction(down, up, found.shift, start.activation)


def _adam_step(state: State, gradients: Sequence[Float[Tensor, "t _ _"]], schedule: Schedule, begun: slice = slice(None)) -> None:
    """Take a step of Adam (Kingma & Ba, 2015) in place, for all modules that have begun; those that have ended stay where they are.

    It is torch's, bit for bit, but counts the steps of every module by itself, and leaves its state in the open.
    """
    state.steps[begun] += 1
    first, second = schedule.betas
    counts, running = state.steps[begun].tolist(), state.running[begun].tolist()
    rates = [
        -schedule.learning_rate * schedule.rate_at(count - 1) / (1 - first**count) if runs else 0.0
        for count, runs in zip(counts, running, strict=True)
    ]
    rate, root = (torch.tensor(values)[:, None, None] for values in (rates, [(1 - second**count) ** 0.5 for count in counts]))
    for gradient, tensors in zip(gradients, state.moments, strict=True):
        own, (value, mean, square) = gradient[begun], (tensor[begun] for tensor in tensors)
        mean.lerp_(own, 1 - first)
        square.mul_(second).addcmul_(own, own, value=1 - second)
        value.addcdiv_(rate * mean, square.sqrt().div_(root).add_(EPSILON))


def _batches(sizes: Sequence[int], schedule: Schedule, generators: Sequence[torch.Generator]) -> Iterator[Int[Tensor, "s t b"]]:
    """Yield an iteration's rows of the concatenated sets, a batch of every task for each of its steps."""
    starts = torch.tensor([0, *sizes]).cumsum(0)[:-1].tolist()
    batch = schedule.batch_size
    if schedule.one_pass:
        drawn = [_passing(start, size, batch) for start, size in zip(starts, sizes, strict=True)]
    else:
        drawn = [_shuffled(start, size, batch, own) for start, size, own in zip(starts, sizes, generators, strict=True)]
    while True:
        yield torch.stack([torch.stack([next(rows) for rows in drawn]) for _ in range(schedule.steps_per_iteration)])


def _shuffled(start: int, size: int, batch: int, generator: torch.Generator) -> Iterator[Int[Tensor, " b"]]:
    """Yield batches of one task, which goes through its samples in a new order every epoch."""
    return (start + rows for rows in shuffled_rows(size, batch, generator))


def _passing(start: int, size: int, batch: int) -> Iterator[Int[Tensor, " b"]]:
    """Yield batches of one task in the order of its samples, filled up with −1; after the last sample, nothing but that."""
    for at in range(0, size, batch):
        rows = torch.arange(at, at + batch)
        yield torch.where(rows < size, start + rows, -1)
    while True:
        yield torch.full((batch,), -1)
