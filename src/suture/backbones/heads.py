"""Frozen heads: the task-private maps from representations to logits."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors import safe_open
from torch import Tensor
from torch.nn.functional import normalize

from suture.checkpoints import Checkpoint, TensorSpec, open_checkpoint, write_safetensors
from suture.errors import CorruptCheckpoint, DataError, NonFiniteTensor

CLASSES = "classes"
"""Where the metadata of a heads file names each task's classes, as JSON."""


@dataclass(frozen=True)
class Head:
    """Logits of C classes from representations of width k.

    A cosine head (``bias`` is None) compares directions, as CLIP's zero-shot heads do: logits = ``scale`` · ẑ Ŵᵀ with ẑ and the rows of
    Ŵ of length one. A linear head is Z Wᵀ + b.

    >>> z = torch.tensor([[3.0, 0.0]])
    >>> Head(torch.eye(2), scale=2.0)(z), Head(torch.eye(2), torch.ones(2))(z)
    (tensor([[2., 0.]]), tensor([[4., 1.]]))
    """

    weight: Float[Tensor, "c k"]
    bias: Float[Tensor, " c"] | None = None
    scale: float = 20.0
    classes: tuple[str, ...] = ()
    """The classes' names, one per row of ``weight``; empty where they are not known."""

    def __post_init__(self) -> None:
        if self.classes and len(self.classes) != len(self.weight):
            raise DataError(f"a head of {len(self.weight)} rows cannot have {len(self.classes)} classes: {', '.join(self.classes)}")

    def __call__(self, z: Float[Tensor, "n k"]) -> Float[Tensor, "n c"]:
        """Return the logits; raises :class:`DataError` for representations of another width."""
        if z.shape[1] != self.weight.shape[1]:
            raise DataError(f"the head takes representations of width {self.weight.shape[1]}, not {z.shape[1]}")
        if self.bias is not None:
            return z @ self.weight.T + self.bias
        return self.scale * normalize(z, dim=1) @ normalize(self.weight, dim=1).T


def prototype_head(z: Float[Tensor, "n k"], labels: Int[Tensor, " n"], classes: int, scale: float = 20.0) -> Head:
    """Make a cosine head from a few labelled representations: the mean direction of each class (Snell et al., 2017, arXiv 1703.05175).

    Raises :class:`DataError` when a class has no sample.

    >>> head = prototype_head(torch.eye(2), torch.tensor([0, 1]), classes=2, scale=1.0)
    >>> head(torch.tensor([[3.0, 0.0]]))
    tensor([[1., 0.]])
    """
    counts = torch.bincount(labels, minlength=classes)
    if counts.numel() > classes or bool((counts == 0).any()):
        raise DataError(f"prototypes need samples of each of the {classes} classes; found {counts.tolist()} per class")
    sums = torch.zeros(classes, z.shape[1], dtype=z.dtype).index_add_(0, labels, normalize(z, dim=1))
    return Head(normalize(sums / counts[:, None], dim=1), scale=scale)


def save_heads(file: Path, heads: Mapping[str, Head]) -> None:
    """Write the heads of all tasks to one safetensors file: ``<task>.weight``, ``<task>.scale``, ``<task>.bias``; classes as metadata.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     save_heads(Path(folder) / "heads.safetensors", {"pets": Head(torch.eye(2), classes=("cat", "dog"))})
    ...     load_heads(Path(folder) / "heads.safetensors")["pets"].classes
    ('cat', 'dog')
    """
    tensors = {}
    for task, head in heads.items():
        tensors[f"{task}.weight"] = head.weight
        tensors[f"{task}.scale"] = torch.tensor(head.scale)
        if head.bias is not None:
            tensors[f"{task}.bias"] = head.bias
    specs = {name: TensorSpec(tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
    named = {task: head.classes for task, head in heads.items() if head.classes}
    write_safetensors(file, specs, tensors.items(), {"suture": "heads", CLASSES: json.dumps(named)})


def load_heads(file: Path) -> dict[str, Head]:
    """Read what :func:`save_heads` wrote, as the example there shows; raises :class:`CorruptCheckpoint` when a head is not whole."""
    tensors = open_checkpoint(file)
    tasks = dict.fromkeys(name.rpartition(".")[0] for name in tensors)
    classes = _classes(file)
    return {task: _whole(file, tensors, task, classes.get(task, ())) for task in tasks}


def _whole(file: Path, tensors: Checkpoint, task: str, classes: tuple[str, ...]) -> Head:
    """Return a head, its tensors checked."""
    weight, bias, scale = (tensors.specs.get(f"{task}.{part}") for part in ("weight", "bias", "scale"))
    for part, spec in (("weight", weight), ("scale", scale)):
        if spec is None:
            raise CorruptCheckpoint(f"{file}: expected a tensor {f'{task}.{part}'!r} beside the others of that head")
    found = [spec for spec in (weight, bias, scale) if spec is not None]
    fits = weight is not None and len(weight.shape) == 2 and (bias is None or bias.shape == weight.shape[:1])
    if not fits or scale is None or scale.shape != () or not all(spec.dtype.is_floating_point for spec in found):
        told = " and ".join(f"{list(spec.shape)} {spec.dtype}" for spec in found)
        raise CorruptCheckpoint(f"{file}: the head of {task!r} has {told}; expected (c, k), where there is a bias (c), and a number")
    try:
        head = Head(tensors[f"{task}.weight"].clone(), _optional(tensors, f"{task}.bias"), float(tensors[f"{task}.scale"]), classes)
    except DataError as error:
        raise DataError(f"{file}: {error}") from error
    numbers = [head.weight, torch.tensor(head.scale), *([] if head.bias is None else [head.bias])]
    if not all(bool(part.isfinite().all()) for part in numbers):
        raise NonFiniteTensor(f"{file}: the head of {task!r} holds NaN or Inf")
    return head


def _classes(file: Path) -> dict[str, tuple[str, ...]]:
    """Return the names of the classes of each task that a heads file names them for."""
    with safe_open(file, framework="pt") as handle:
        text = (handle.metadata() or {}).get(CLASSES, "{}")
    try:
        named = {task: tuple(names) for task, names in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise CorruptCheckpoint(f"{file}: the classes in its metadata are not lists of names") from error
    if not all(isinstance(name, str) for names in named.values() for name in names):
        raise CorruptCheckpoint(f"{file}: the classes in its metadata are not lists of names")
    return named


def _optional(tensors: Mapping[str, Tensor], name: str) -> Tensor | None:
    return tensors[name].clone() if name in tensors else None
