"""One backbone that does many tasks: shared weights, and of each task a correction and a head."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from suture.backbones import Backbone, Head
from suture.errors import DataError, IncompatibleExperts, UnknownName
from suture.inputs import Input
from suture.multitask.facts import Facts
from suture.multitask.fold import fold
from suture.multitask.router import Router
from suture.representation import encode
from suture.surgery import Operation, Origin, Surgery, network_after
from suture.surgery.operations import represent_by
from suture.types import Progress, no_progress

AUTO, ALL = "auto", "all"
"""In place of a task: the one that the router finds, or every one. No task may be called so."""


@dataclass(frozen=True)
class Prediction:
    """What the model makes of one input.

    >>> Prediction("pets", "cat", {"cat": 0.75, "dog": 0.25}).probability
    0.75
    """

    task: str
    label: str
    """The most probable class."""
    probabilities: Mapping[str, float]
    """Of every class, in the head's order."""
    confidence: float = 1.0
    """How probable it is that the input is of this task; 1 where the task was given."""
    strange: bool = False
    """Whether the router takes the input for one of none of the tasks."""

    @property
    def probability(self) -> float:
        """That of the most probable class."""
        return self.probabilities[self.label]

    def told(self, *, routed: bool = True) -> dict[str, object]:
        """Return it as it goes into JSON; what the router said, only where it was asked."""
        found: dict[str, object] = {"confidence": self.confidence, "none_of_these": self.strange} if routed else {}
        about = {"label": self.label, "probability": self.probability, "probabilities": dict(self.probabilities)}
        return {"task": self.task, **found, **about}


def named_classes(head: Head) -> tuple[str, ...]:
    """Return the names of a head's classes: numbers where there are none, and a number behind a name that stands there again.

    >>> named_classes(Head(torch.zeros(3, 2), classes=("crane", "dog", "crane")))
    ('crane', 'dog', 'crane (2)')
    """
    given = head.classes or tuple(str(row) for row in range(len(head.weight)))
    times = [given[:place].count(name) + 1 for place, name in enumerate(given)]
    return tuple(name if count == 1 else f"{name} ({count})" for name, count in zip(given, times, strict=True))


@dataclass(frozen=True)
class MultiTaskModel:
    """A merged backbone, the heads of its tasks and, where there are any, an operation on its representations and a router.

    Nothing is random and nothing is learnt: the same inputs, asked together, get the same bits. Surgery of the final representation
    alone answers every task with one pass through the backbone; deep surgery and residuals take one per task.

    Raises :class:`IncompatibleExperts` when the operation was fitted on other weights (``origin`` says on which),
    :class:`DataError` when heads, operation and router are not of the same tasks.

    >>> heads = {"pets": Head(torch.eye(4)[:2], classes=("cat", "dog")), "numbers": Head(torch.eye(4)[2:], classes=("one", "two"))}
    >>> model = MultiTaskModel(backbone, heads)
    >>> model.classes("pets"), model.shares_passes, model.logits(["kitten", "dog"], "pets").shape
    (('cat', 'dog'), True, torch.Size([2, 2]))
    """

    backbone: Backbone
    heads: Mapping[str, Head]
    operation: Operation | None = None
    origin: Origin | None = None
    router: Router | None = None
    facts: Facts = field(default_factory=Facts)
    """What its card tells of how it came about."""
    _networks: dict[str, Backbone] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.heads:
            raise DataError("a multi-task model has at least one task")
        if taken := {AUTO, ALL} & set(self.heads):
            raise DataError(f"a task of a model to ship cannot be called {taken.pop()!r}: that asks for the task that is found, or for all")
        for what, part in (("surgery", self.operation), ("router", self.router)):
            if part is not None and set(part.tasks) != set(self.heads):
                raise DataError(f"the heads are of {', '.join(self.heads)}, but the {what} is of {', '.join(part.tasks)}")
        if self.origin is not None and self.origin.backbone != self.backbone.weights.digest:
            raise IncompatibleExperts(
                f"this surgery was fitted on other weights (sha256 {self.origin.backbone[:12]}…) than those of the backbone "
                f"({self.backbone.weights.digest[:12]}…)"
            )

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks, in order."""
        return tuple(self.heads)

    @property
    def shares_passes(self) -> bool:
        """Whether one pass through the backbone answers all tasks."""
        return self.operation is None or (isinstance(self.operation, Surgery) and not self.operation.deep)

    def classes(self, task: str) -> tuple[str, ...]:
        """Return the names of a task's classes, as :func:`named_classes` does; raises :class:`UnknownName` for another task."""
        if task not in self.heads:
            raise UnknownName("task", task, self.heads)
        return self._classes[task]

    @cached_property
    def _classes(self) -> dict[str, tuple[str, ...]]:
        return {task: named_classes(head) for task, head in self.heads.items()}

    def represent(self, inputs: Sequence[Input], task: str, progress: Progress = no_progress) -> Float[Tensor, "n k"]:
        """Return a task's corrected representations. ``progress`` counts inputs.

        Raises :class:`UnknownName` for another task, :class:`DataError` for no inputs, or some that the backbone does not take.
        """
        self.classes(task)
        if self.operation is None:
            return encode(self.backbone, inputs, progress)
        return represent_by(self.operation, self.network_of(task), task, inputs, progress)

    def logits(self, inputs: Sequence[Input], task: str, progress: Progress = no_progress) -> Float[Tensor, "n c"]:
        """Return a task's logits; raises what :meth:`represent` raises."""
        z = self.represent(inputs, task, progress)
        return self.heads[task](z)

    def predict(self, inputs: Sequence[Input], task: str | Sequence[str] = AUTO, progress: Progress = no_progress) -> list[Prediction]:
        """Say what each input is: for one task, for a task of each input's own, or for the one that the router finds (``"auto"``).

        ``progress`` counts inputs that pass the backbone. Raises what :meth:`represent` raises, and :class:`DataError` without a router.
        """
        if not inputs:
            raise DataError("there are no inputs to predict")
        asked = [task] * len(inputs) if isinstance(task, str) else list(task)
        if len(asked) != len(inputs):
            raise DataError(f"{len(inputs)} inputs, but {len(asked)} tasks")
        for each in set(asked) - {AUTO}:
            self.classes(each)
        shared = encode(self.backbone, inputs, progress) if self.shares_passes else None
        routed = [(each, 1.0, False) for each in asked]
        if unknown := [place for place, each in enumerate(asked) if each == AUTO]:
            z = encode(self.backbone, [inputs[place] for place in unknown], progress) if shared is None else shared[unknown]
            for place, found in zip(unknown, self._route(z), strict=True):
                routed[place] = found
        answers: dict[int, Prediction] = {}
        for name in dict.fromkeys(task for task, _, _ in routed):
            places = [place for place, (task, _, _) in enumerate(routed) if task == name]
            z = self._corrected([inputs[place] for place in places], name, None if shared is None else shared[places], progress)
            for place, (label, probabilities) in zip(places, self._labelled(z, name), strict=True):
                answers[place] = Prediction(name, label, probabilities, *routed[place][1:])
        return [answers[place] for place in range(len(inputs))]

    def predict_all(self, inputs: Sequence[Input], progress: Progress = no_progress) -> dict[str, list[Prediction]]:
        """Say what each input is for every task; with surgery of the final representation alone, in one pass through the backbone.

        Raises what :meth:`predict` raises.
        """
        if not inputs:
            raise DataError("there are no inputs to predict")
        shared = encode(self.backbone, inputs, progress) if self.shares_passes else None
        answers = {}
        for task in self.tasks:
            z = self._corrected(inputs, task, shared, progress)
            answers[task] = [Prediction(task, label, probabilities) for label, probabilities in self._labelled(z, task)]
        return answers

    def _corrected(self, inputs: Sequence[Input], task: str, shared: Tensor | None, progress: Progress) -> Float[Tensor, "n k"]:
        if shared is None or not self.shares_passes:
            return self.represent(inputs, task, progress)
        return self.operation(task, shared) if isinstance(self.operation, Surgery) else shared

    def _route(self, z: Float[Tensor, "n k"]) -> Iterator[tuple[str, float, bool]]:
        """Yield the task of each input, how sure that is, and whether it is of none."""
        if self.router is None:
            raise DataError("this model has no router: name the task")
        probable, strange = self.router(z)
        confidence, found = probable.max(dim=1)
        for place, sure, none in zip(found.tolist(), confidence.tolist(), strange.tolist(), strict=True):
            yield self.router.tasks[place], sure, none

    def _labelled(self, z: Float[Tensor, "n k"], task: str) -> Iterator[tuple[str, dict[str, float]]]:
        """Yield the most probable class of each input, and the probabilities of all."""
        classes = self.classes(task)
        shares = self.heads[task](z).double().softmax(dim=1)
        for row, best in zip(shares.tolist(), shares.argmax(dim=1).tolist(), strict=True):
            yield classes[best], dict(zip(classes, row, strict=True))

    def network_of(self, task: str) -> Backbone:
        """Return the backbone with a task's residuals in it, where there are any; it is kept, whole."""
        if self.operation is None:
            return self.backbone
        if task not in self._networks:
            self._networks[task] = network_after(self.operation, self.backbone, task)
        return self._networks[task]

    @classmethod
    def from_pretrained(cls, place: str | Path, network: str = "") -> "MultiTaskModel":
        """Load a saved model, from a folder or the hub; see :func:`suture.multitask.from_pretrained`."""
        from suture.multitask.folder import from_pretrained

        return from_pretrained(place, network)

    def save_pretrained(self, out: str | Path, *, replace: bool = False) -> None:
        """Write it to a folder; see :func:`suture.multitask.save_pretrained`."""
        from suture.multitask.folder import save_pretrained

        save_pretrained(self, out, replace=replace)

    def push_to_hub(self, repository: str, *, private: bool = True, message: str = "") -> str:
        """Upload it and return its address; see :func:`suture.multitask.push_to_hub`."""
        from suture.multitask.folder import push_to_hub

        return push_to_hub(self, repository, private=private, message=message)

    def folded(self) -> "MultiTaskModel":
        """Return the same model with its surgery folded into its heads, which makes it free; see :func:`suture.multitask.fold`.

        Raises :class:`DataError` unless the surgery is a closed form of the final representation, and all heads are linear.
        """
        if not isinstance(self.operation, Surgery) or self.operation.deep:
            raise DataError("only surgery of the final representation folds into heads")
        final, facts = self.operation.final, self.facts.model_copy(update={"surgery": f"{self.facts.surgery} (in the heads)"})
        heads = {task: fold(head, final[task]) for task, head in self.heads.items()}
        return replace(self, heads=heads, operation=None, origin=None, facts=facts)

    @cached_property
    def parameters(self) -> tuple[int, int]:
        """How many numbers the backbone has, and how many all tasks together add with surgery, heads and router."""
        own = sum(head.weight.numel() + (0 if head.bias is None else head.bias.numel()) for head in self.heads.values())
        if self.operation is not None:
            own += sum(self.operation.parameters(task) for task in self.tasks)
        own += 0 if self.router is None else self.router.parameters
        return sum(torch.Size(spec.shape).numel() for spec in self.backbone.weights.specs.values()), own
