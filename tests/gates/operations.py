"""What is interrupted: merges, fits, exports, each of which replaces what it wrote before by something else."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from gates.interposing import look
from suture.backbones import Head, TextBackbone
from suture.checkpoints import convert, open_checkpoint
from suture.checkpoints.reading import INDEX
from suture.checkpoints.writing import write_text
from suture.engine import LocalEngine
from suture.merging import TaskArithmetic, merge_by_shards, merge_to_folder
from suture.multitask import MultiTaskModel, save_pretrained
from suture.multitask.onnx import export_onnx
from suture.surgery import Schedule, fit_surgery, save_operation
from suture.surgery.pairs import Pair

Seen = dict[str, bytes | None]


@dataclass
class Operation:
    """Something that writes ``out``, in the one version or the other; both are known in full."""

    name: str
    out: Path
    write: Callable[[int], object]
    versions: list[Seen] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.out.parent.mkdir()
        for version in (0, 1, 0, 1):
            self.write(version)
            self.versions.append(look(self.out))
        again = self.versions[2:]
        del self.versions[2:]
        assert again == self.versions, f"{self.name} writes other bytes each time"
        assert self.versions[0] != self.versions[1]
        assert self.beside() == []

    def stand(self, version: int | None) -> None:
        """Have a version stand at the output, or nothing, and nothing beside it."""
        for entry in list(self.out.parent.iterdir()):
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        for name, content in (self.versions[version] if version is not None else {}).items():
            place = self.out / name if name else self.out
            place.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                place.mkdir(exist_ok=True)
            else:
                place.write_bytes(content)

    def standing(self) -> int | None:
        """Return which version stands there, if any; raises ``AssertionError`` for anything else."""
        found = look(self.out)
        if found and found not in self.versions:
            names = {name for version in self.versions for name in found | version if found.get(name, "") != version.get(name, "")}
            raise AssertionError(f"{self.name}: {self.out} is neither what stood there nor what was written: {sorted(names)} differ")
        return self.versions.index(found) if found else None

    def beside(self) -> list[str]:
        """Return the names of what lies beside the output."""
        return sorted(entry.name for entry in self.out.parent.iterdir() if entry != self.out)


def write_model(folder: Path, seed: int, shards: int = 1) -> Path:
    """Write a model of a few tensors."""
    folder.mkdir(parents=True)
    random = torch.Generator().manual_seed(seed)
    tensors = {name: torch.randn(8, 8, generator=random) for name in ("a.weight", "b.weight", "c.weight")}
    names = ["model.safetensors"] if shards == 1 else [f"model-{part + 1:05}-of-{shards:05}.safetensors" for part in range(shards)]
    weight_map = {name: names[place % shards] for place, name in enumerate(tensors)}
    for file in names:
        save_file({name: tensors[name] for name, own in weight_map.items() if own == file}, folder / file, {"format": "pt"})
    if shards > 1:
        write_text(folder / INDEX, f'{{"weight_map": {weight_map!r}}}'.replace("'", '"'))
    write_text(folder / "config.json", "{}")
    return folder


def merging(folder: Path, shards: int = 1) -> Operation:
    """Merge two experts into a folder."""
    base, *experts = (open_checkpoint(write_model(folder / f"model{seed}", seed, shards)) for seed in range(3))

    def write(version: int) -> None:
        merge_to_folder(TaskArithmetic(scale=0.3 + version), base, experts, out, replace=True)

    out = folder / "merged" / "out"
    return Operation(f"merge of {shards} file(s)", out, write)


def merging_by_shards(folder: Path) -> Operation:
    """Merge two experts file by file, each of which is kept until all are there."""
    base, *experts = (open_checkpoint(write_model(folder / f"model{seed}", seed, 3)) for seed in range(3))

    def write(version: int) -> None:
        merge_by_shards(TaskArithmetic(scale=0.3 + version), base, experts, out, engine=LocalEngine(), replace=True)

    out = folder / "sharded" / "out"
    return Operation("merge shard by shard", out, write)


def calibration() -> dict[str, Pair]:
    """Return representations of two tasks, as a merged model and the experts make them."""
    random = torch.Generator().manual_seed(0)
    return {task: (z := torch.randn(32, 8, generator=random), z + 0.1 * torch.randn(32, 8, generator=random)) for task in ("a", "b")}


def fit(pairs: dict[str, Pair], out: Path, iterations: int, resume: Path | None = None) -> None:
    """Fit surgery and write it to a file."""
    save_operation(out, fit_surgery(pairs, Schedule(rank=2, iterations=iterations), seed=0, resume=resume))


def fitting(folder: Path) -> Operation:
    """Fit surgery for a few steps."""
    out, pairs = folder / "fitted" / "surgery.safetensors", calibration()
    return Operation("fit", out, lambda version: fit(pairs, out, 20 + version))


def model_of(bert: Path) -> MultiTaskModel:
    """Return a multi-task model of one task."""
    random = torch.Generator().manual_seed(0)
    backbone = TextBackbone(bert, open_checkpoint(bert), max_length=16)
    return MultiTaskModel(backbone, {"pets": Head(torch.randn(2, 16, generator=random), classes=("cat", "dog"))})


def shipping(folder: Path, bert: Path) -> Operation:
    """Write a multi-task model as a folder to ship."""
    out, model = folder / "shipped" / "out", model_of(bert)
    models = [model, replace(model, heads={"pets": replace(model.heads["pets"], scale=30.0)})]
    return Operation("export of a model", out, lambda version: save_pretrained(models[version], out, replace=True))


def exporting(folder: Path, bert: Path) -> Operation:
    """Write ONNX graphs; PyTorch traces them once, and what it made is written again each time, as tracing takes seconds."""
    out, model = folder / "graphs" / "out", model_of(bert)
    models = [model, replace(model, facts=model.facts)]
    traced: dict[str, bytes] = {}
    trace = torch.onnx.export

    def export(module: Any, example: Any, file: Path, **settings: Any) -> None:
        if file.name not in traced:
            trace(module, example, file, **settings)
            traced[file.name] = file.read_bytes()
        file.write_bytes(traced[file.name])

    def write(version: int) -> None:
        named = replace(models[version], heads={"pets": replace(model.heads["pets"], classes=("cat", "dog" * (version + 1)))})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.onnx, "export", export)
            export_onnx(named, out, replace=True)

    return Operation("export to ONNX", out, write)


def converting(folder: Path) -> Operation:
    """Convert a pickle into a model folder."""
    (folder / "old").mkdir()
    for version in range(2):
        torch.save({"a": torch.full((4,), float(version))}, folder / "old" / f"{version}.pt")
    out = folder / "converted" / "out"
    return Operation("convert", out, lambda version: convert(folder / "old" / f"{version}.pt", out, replace=True))
