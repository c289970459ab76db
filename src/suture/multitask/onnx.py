"""Multi-task models as ONNX graphs, for places where there is no PyTorch; each is checked against it before it is handed over."""

import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from suture.backbones import Backbone
from suture.checkpoints import Manifest, staged_folder
from suture.checkpoints.companions import copy_files
from suture.checkpoints.writing import write_text
from suture.errors import OutputError, UnsupportedFormat
from suture.inputs import Input
from suture.multitask.graph import NO_CLASS, Graph
from suture.multitask.model import MultiTaskModel
from suture.surgery import parts_of
from suture.types import Progress, no_progress

ALL, TASK, LOGITS = "model.onnx", "task", "logits"
CLOSE = 1e-4
"""How far logits may be from PyTorch's, as a share of the largest where that is over 1."""


def export_onnx(model: MultiTaskModel, out: Path, *, replace: bool = False, progress: Progress = no_progress) -> None:
    """Write ``model.onnx``, which takes the number of each input's task beside it, and a graph for every task, without.

    ``tasks.json`` says what is what: the tasks in the order of their numbers, their classes, their graphs, the names of inputs. Rows of
    ``model.onnx`` are as long as those of the task with the most classes; what a task does not have is far below all else. A model with
    residuals has other weights for each task, and gets graphs of single tasks alone. ``progress`` counts graphs.

    Raises :class:`UnsupportedFormat` without the extra ``onnx``, or for a network that does not become a graph; :class:`OutputError`
    when a graph's logits are not PyTorch's.
    """
    _check_installed()
    residuals, surgery = (None, None) if model.operation is None else parts_of(model.operation)
    graphs: dict[str, Sequence[str]] = {} if residuals is not None else {ALL: model.tasks}
    graphs |= {f"task-{number}.onnx": [task] for number, task in enumerate(model.tasks)}
    with staged_folder(out, Manifest(), replace=replace, inputs=[model.backbone.weights.path]) as folder:
        for file, tasks in graphs.items():
            backbone = model.network_of(tasks[0])
            names = list(backbone.collate(backbone.prepare([backbone.sample])))
            graph = Graph(backbone, [model.heads[task] for task in tasks], surgery, tasks, names)
            _export(graph, model, tasks, folder / file, several=file == ALL)
            progress(1)
        copy_files(model.backbone.folder, folder)
        about = {
            "inputs": names,
            "max_length": getattr(model.backbone, "longest", None),
            "all_tasks": ALL if ALL in graphs else None,
            "tasks": [
                {"name": task, "graph": f"task-{number}.onnx", "classes": list(model.classes(task))}
                for number, task in enumerate(model.tasks)
            ],
        }
        write_text(folder / "tasks.json", json.dumps(about, indent=1, ensure_ascii=False) + "\n")


def _check_installed() -> None:
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UnsupportedFormat(f"ONNX needs {error.name}, which is not installed: pip install 'suture[onnx]'") from error


class _OneTask(torch.nn.Module):
    """A graph whose task is not asked for."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.whole = graph  # not "graph": the name is taken in what the exporter makes of it

    def forward(self, *batch: Tensor) -> Tensor:
        logits: Tensor = self.whole(*batch, torch.zeros(batch[0].shape[:1], dtype=torch.int64))
        return logits


def _export(graph: Graph, model: MultiTaskModel, tasks: Sequence[str], file: Path, *, several: bool) -> None:
    """Trace a graph, write it, and compare it with the model on batches of several sizes."""
    module = (graph if several else _OneTask(graph)).eval()
    names = [*graph.names, *([TASK] if several else [])]
    backbone = model.network_of(tasks[0])

    def batch(inputs: Sequence[Input]) -> tuple[Tensor, ...]:
        parts = backbone.collate(backbone.prepare(inputs))
        numbers = torch.arange(len(inputs)) % len(tasks)
        return (*(parts[name] for name in graph.names), *([numbers] if several else []))

    example = batch(_examples(backbone, 3))
    with torch.no_grad(), _quietly():
        try:
            torch.onnx.export(
                module,
                example,
                file,
                dynamo=True,
                external_data=False,
                input_names=names,
                output_names=[LOGITS],
                dynamic_shapes=(tuple(_dynamic(name, part) for name, part in zip(names, example, strict=True)),),
            )
        except (RuntimeError, ValueError, TypeError, torch.onnx.errors.OnnxExporterError) as error:
            told = " ".join(str(error).split())[:300]
            raise UnsupportedFormat(f"{backbone.architecture} does not become an ONNX graph: {told}") from error
    for count in (1, 5):
        inputs = _examples(backbone, count)
        found = _run(file, dict(zip(names, batch(inputs), strict=True)))
        expected = [model.logits([each], tasks[place % len(tasks)])[0] for place, each in enumerate(inputs)]
        _compare(file, found, expected)


def _examples(backbone: Backbone, count: int) -> list[Any]:
    """Return inputs of several lengths, none like another: the last text is as long as texts may be."""
    if backbone.kind == "text":
        lengths = [2 * place + 1 for place in range(count - 1)] + [getattr(backbone, "longest", 16)]
        return [" ".join(f"{chr(97 + (7 * word + place) % 26)}" for word in range(length)) for place, length in enumerate(lengths)]
    return [np.random.default_rng(place).integers(0, 256, (40 + place, 48, 3), dtype=np.uint8) for place in range(count)]


def _dynamic(name: str, part: Tensor) -> dict[int, Any]:
    """Return which dimensions of an input vary: how many there are and, of texts, how long they are."""
    count = {0: torch.export.Dim.DYNAMIC}
    return count if name == TASK or part.dim() != 2 else {**count, 1: torch.export.Dim.DYNAMIC}


def _run(file: Path, batch: Mapping[str, Tensor]) -> Tensor:
    """Return the logits of a graph; raises :class:`UnsupportedFormat` for one that onnxruntime does not run."""
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        (found,) = session.run([LOGITS], {name: part.numpy() for name, part in batch.items()})
    except Exception as error:  # onnxruntime's errors have no common class that it documents
        raise UnsupportedFormat(f"{file.name}: onnxruntime does not run this graph: {' '.join(str(error).split())[:300]}") from error
    return torch.from_numpy(found)


def _compare(file: Path, found: Float[Tensor, "n c"], expected: Sequence[Tensor]) -> None:
    """Raise :class:`OutputError` when a graph gives other logits than the model."""
    for row, logits in zip(found, expected, strict=True):
        furthest = float((row[: len(logits)] - logits).abs().max() / logits.abs().max().clamp(min=1))
        if not furthest <= CLOSE or bool((row[len(logits) :] > NO_CLASS / 2).any()):
            raise OutputError(f"{file.name}: the logits of the ONNX graph are {furthest:.1e} from PyTorch's, over {CLOSE:.0e}")


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep the exporter's reports to itself; what goes wrong is raised."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
