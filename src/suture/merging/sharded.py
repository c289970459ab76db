"""Large merges shard by shard: every file of the output is a step of its own, for as many processes or nodes as there are."""

import hashlib
import json
import os
import shutil
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from suture.checkpoints import (
    Checkpoint,
    Manifest,
    Weights,
    check_output,
    clear_away,
    copy_companions,
    name_in_folder,
    read_manifest,
    staged_folder,
    write_part,
    writing_to,
)
from suture.checkpoints.verifying import check_file
from suture.engine import Engine, Resources, Step, run_steps
from suture.errors import UsageError, reading
from suture.merging.batch_norm import BatchNorm, check_variances
from suture.merging.driver import manifest_of, merge_names, shards_beside
from suture.merging.matching import check_experts, warn_of_copies
from suture.merging.method import DataDrivenMethod, MergingMethod, Statistics
from suture.merging.streaming import Sources, Streamed
from suture.merging.tying import tied_names
from suture.types import Stage, silent

FOUND = "found.pt"


def merge_by_shards(
    method: MergingMethod,
    base: Checkpoint,
    experts: Sequence[Weights],
    out: str | Path,
    *,
    engine: Engine,
    store: Path | None = None,
    dtype: torch.dtype | None = None,
    batch_norm: BatchNorm = "mean",
    about: Mapping[str, Any] | None = None,
    replace: bool = False,
    stage: Stage = silent,
) -> Path:
    """Merge into a folder as :func:`merge_to_folder` does, byte for byte, the base's files of weights each by themselves.

    What the method has to know of the whole model is found in a first step; then each shard is one. Shards are kept in ``store``, which
    is a hidden folder beside ``out`` unless another is given, until all are there: after a run that failed or was stopped the next one
    goes on from them. All processes must see base, experts and store at the same absolute paths.

    Raises what :func:`merge_to_folder` and :func:`suture.engine.run_steps` raise, and :class:`UsageError` for methods that learn from
    data, and for running statistics measured anew.

    >>> from suture.engine import LocalEngine
    >>> from suture.merging import Ties
    >>> sorted(file.name for file in merge_by_shards(Ties(), base, experts, folder / "merged", engine=LocalEngine()).iterdir())
    ['manifest.json', 'model.safetensors']
    """
    _check_splits(method, batch_norm)
    check_experts(base, experts, any_dtype=dtype is not None)
    warn_of_copies(base, experts)
    out = Path(out).absolute()
    inputs = [file for weights in (base, *experts) for file in weights.files]
    check_output(out, replace=replace, inputs=inputs)
    beside = shards_beside(out)
    store = store or beside
    shards = shard_steps(Merge(method, base, tuple(experts), dtype, batch_norm))
    with writing_to(out):
        check_output(out, replace=replace, inputs=inputs)
        _run(shards, store, engine, stage)
        manifest = manifest_of(method, base, experts, dtype, batch_norm, about)
        manifest.files = {shard.target: shard.digest(store) for shard in shards}
        with staged_folder(out, manifest, replace=replace, inputs=inputs) as folder:
            for shard in shards:
                _link(store / shard.key / shard.target, folder / shard.target)
            copy_companions(base, folder)
        _clear(store, shards)
        # What was kept for other settings is of no use beside an output that is whole.
        clear_away(beside, out)
    return out


def _check_splits(method: MergingMethod, batch_norm: BatchNorm) -> None:
    """Raise :class:`UsageError` for what learns from data."""
    if isinstance(method, DataDrivenMethod) or batch_norm == "recalibrate":
        what = method.name if isinstance(method, DataDrivenMethod) else "batch_norm: recalibrate"
        raise UsageError(f"{what} learns from data, and is not split by shards: merge with one local job")


def _run(shards: Sequence["Shard"], store: Path, engine: Engine, stage: Stage) -> None:
    """Make the shards that are not there, and compare those that are with their digests."""
    summary = run_steps(shards, store, engine, stage)
    for shard in shards:
        if shard.key in summary.skipped:  # it has lain there since another run
            check_file(store / shard.key, shard.target, shard.digest(store))


def _clear(store: Path, shards: Sequence["Shard"]) -> None:
    """Remove what the steps have left, and the store if nothing else is in it."""
    for step in {need.key for shard in shards for need in shard.needs} | {shard.key for shard in shards}:
        clear_away(store / step, store / step)
    with suppress(OSError):
        store.rmdir()


@dataclass(frozen=True)
class Merge:
    """What is merged, and how."""

    method: MergingMethod
    base: Checkpoint
    experts: tuple[Weights, ...]
    dtype: torch.dtype | None = None
    batch_norm: BatchNorm = "mean"

    @cached_property
    def identity(self) -> tuple[object, ...]:
        """All that the result depends on; weights by their fingerprints, as elsewhere in a merge."""
        prints = [weights.fingerprint for weights in (self.base, *self.experts)]
        return Manifest().version, repr(self.method), prints, str(self.dtype), self.batch_norm

    @cached_property
    def sources(self) -> Sources:
        """The weights, as the driver takes them."""
        return Sources(self.base, self.experts, self.dtype)

    def __reduce__(self) -> tuple[type["Merge"], tuple[object, ...]]:
        return type(self), (self.method, self.base, self.experts, self.dtype, self.batch_norm)

    def key(self, *what: object) -> str:
        """Return the digest that names a step's result."""
        return hashlib.sha256(json.dumps([*self.identity, *what]).encode()).hexdigest()


def shard_steps(merge: Merge) -> list["Shard"]:
    """Return the steps of a merge, one for each file of the output."""
    overview = Overview(merge)
    return [Shard(merge, overview, place) for place in range(len(merge.base.files))]


@dataclass(frozen=True)
class Part:
    """A step of a merge, whose result is a folder with a manifest."""

    merge: Merge

    @property
    @abstractmethod
    def key(self) -> str:
        """The digest of all that it depends on."""

    @property
    def resources(self) -> Resources:
        """What it takes: a processor."""
        return Resources()

    def done(self, store: Path) -> bool:
        """Say whether the result is there."""
        return read_manifest(store / self.key) is not None


@dataclass(frozen=True)
class Overview(Part):
    """Finds out what concerns the whole model: what is tied to what, and what the method wants to know before it combines."""

    needs: Sequence[Step] = ()

    @property
    def title(self) -> str:
        """What is done."""
        return f"Looking through the experts for {self.merge.method.name}"

    @cached_property
    def key(self) -> str:
        """The digest of all that it depends on."""
        return self.merge.key("overview")

    def run(self, store: Path, stage: Stage) -> None:
        """Write what was found; raises what merging raises."""
        merge = self.merge
        check_variances(merge.base, merge.experts)
        tied = tied_names(merge.base, merge.experts)
        with stage(self.title, merge.base.elements * (merge.method.passes - 1)) as progress:
            statistics = merge.method.scan(Streamed(merge.sources, progress))
        with staged_folder(store / self.key, Manifest(), wait=True) as folder:
            torch.save((tied, statistics), folder / FOUND)

    def found(self, store: Path) -> tuple[dict[str, str], Statistics]:
        """Return what is tied to what, and the method's statistics."""
        with reading(store / self.key, "the result of a step; remove it to have it made again"):
            found: tuple[dict[str, str], Statistics] = torch.load(store / self.key / FOUND, weights_only=True)
        return found


@dataclass(frozen=True)
class Shard(Part):
    """Merges the tensors of one file of the base, by its place among them."""

    overview: Overview
    place: int

    @property
    def title(self) -> str:
        """What is done."""
        return f"Merging: {self.merge.method.name}, shard {self.place + 1} of {len(self.merge.base.files)}"

    @cached_property
    def key(self) -> str:
        """The digest of all that it depends on."""
        return self.merge.key("shard", self.target)

    @property
    def needs(self) -> Sequence[Step]:
        """What concerns the whole model."""
        return [self.overview]

    @property
    def target(self) -> str:
        """The name of the file in the output."""
        return name_in_folder(self.merge.base, self.merge.base.files[self.place])

    def digest(self, store: Path) -> str:
        """Return the sha256 of the file, which was taken while it was written."""
        manifest = read_manifest(store / self.key)
        assert manifest is not None  # noqa: S101  the step is done
        return manifest.files[self.target]

    def run(self, store: Path, stage: Stage) -> None:
        """Write the file; raises what merging raises."""
        merge = self.merge
        base, file = merge.base, merge.base.files[self.place]
        names = [name for name in base if base.file_of[name] == file]
        tied, statistics = self.overview.found(store)
        elements = sum(torch.Size(base.specs[name].shape).numel() for name in names)
        manifest = Manifest()
        with staged_folder(store / self.key, manifest, wait=True) as folder, stage(self.title, elements) as progress:

            def counted() -> Iterator[tuple[str, torch.Tensor]]:
                for name, tensor in merge_names(names, merge.method, merge.sources, statistics, merge.batch_norm, tied):
                    progress(tensor.numel())
                    yield name, tensor

            manifest.files = {self.target: write_part(base, file, folder / self.target, counted(), merge.dtype)}


def _link(source: Path, target: Path) -> None:
    """Give a file a second name where the file system can, and else copy it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
