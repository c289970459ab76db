"""The steps before anything is measured: merge, train jointly, encode. What they give is named by the digest of what it came from."""

import json
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from suture import __version__
from suture.checkpoints import Checkpoint, Weights, cache_folder, open_checkpoint
from suture.engine import Resources, Step
from suture.errors import OutputExists
from suture.evaluation import INDIVIDUAL, JOINT, PRETRAINED
from suture.experiment import Recipe, pipeline
from suture.experiment.pipeline import SPLIT_OF
from suture.merging import DataDrivenMethod, MergingMethod
from suture.merging.method import SEED
from suture.paper.study import Study, key_of, opened, representations, seen_of
from suture.representation import encode_cached
from suture.surgery import Operation, load_operation, save_operation
from suture.types import Stage


@dataclass(frozen=True)
class StudyStep:
    """A step of a study, with the recipe that says what it is of."""

    study: Study
    recipe: Recipe

    @property
    def needs(self) -> Sequence[Step]:
        """What goes before it."""
        return ()

    @property
    def resources(self) -> Resources:
        """What it takes: a processor."""
        return Resources()


@dataclass(frozen=True)
class KeptStep(StudyStep, ABC):
    """A step whose result is a folder of the store, which appears whole or not at all."""

    shelf: ClassVar[str]

    @property
    @abstractmethod
    def key(self) -> str:
        """The digest of all that it depends on."""

    def place(self, store: Path) -> Path:
        """Return the folder of its result."""
        return store / self.shelf / self.key

    def done(self, store: Path) -> bool:
        """Say whether the folder is there."""
        return self.place(store).is_dir()


@dataclass(frozen=True)
class Merged(KeptStep):
    """One merge of a study's experts; what learns has learnt from the calibration set of the study's first seed."""

    shelf = "merged"

    @cached_property
    def method(self) -> MergingMethod:
        """The method; one that draws at random does so by the recipe's seed, or the study's first if it learns."""
        (method,), (seed,) = self.recipe.merges, self.study.seeds[:1] if self.learns else self.recipe.seeds
        drawn: MergingMethod = replace(method, **{SEED: seed}) if hasattr(method, SEED) else method
        return drawn

    @property
    def learns(self) -> bool:
        """Whether it sees the calibration set; a study has norms measured anew only where there are any (:func:`study_of`)."""
        return isinstance(self.recipe.merges[0], DataDrivenMethod) or self.recipe.batch_norm == "recalibrate"

    @property
    def title(self) -> str:
        """What is done."""
        return f"Merging: {self.recipe.merges[0].label}"

    @cached_property
    def key(self) -> str:
        """The digest of the experts, the method and, where it learns, of what from."""
        learnt = [self.study.data, self.recipe.calibration.model_dump(mode="json"), self.study.seeds[0]] if self.learns else None
        told = [repr(self.method), self.recipe.batch_norm, self.recipe.only]
        return key_of("merged", __version__, self.study.weights, told, learnt)

    def run(self, store: Path, stage: Stage) -> None:
        """Merge; where another process has been faster, its weights stand."""
        try:
            pipeline.merge(opened(self.recipe), self.recipe, self.method, self.study.seeds[0], self.place(store), stage)
        except OutputExists:
            if not self.done(store):
                raise

    def open(self, store: Path) -> Checkpoint:
        """Return its weights."""
        return open_checkpoint(self.place(store))


@dataclass(frozen=True)
class Trained(KeptStep):
    """The base, fine-tuned on all tasks' labelled data together: traditional multi-task learning."""

    shelf = "merged"

    @property
    def title(self) -> str:
        """What is done."""
        return "Joint training"

    @cached_property
    def key(self) -> str:
        """The digest of the base, the data and the schedule."""
        assert self.recipe.joint is not None  # noqa: S101  made with one
        told = [self.recipe.joint.model_dump(exclude_none=True), self.recipe.calibration.precision, self.recipe.seeds]
        return key_of("trained", __version__, self.study.weights, self.study.data, told)

    def run(self, store: Path, stage: Stage) -> None:
        """Train."""
        with made_whole(self.place(store)) as folder:
            pipeline.train_jointly(opened(self.recipe), self.recipe, self.recipe.seeds[0], folder / "weights", stage)

    def open(self, store: Path) -> Checkpoint:
        """Return its weights."""
        return open_checkpoint(self.place(store) / "weights")


@dataclass(frozen=True)
class Encoded(StudyStep):
    """All tasks' representations of a split under one model, kept in the cache; of the experts, one task at a time."""

    split: str = "test"
    source: Merged | Trained | None = None
    """None for the base and, where a ``task`` is named, for that task's expert."""
    task: str | None = None

    @property
    def model(self) -> str:
        """What its representations are called."""
        if isinstance(self.source, Merged):
            return str(self.recipe.merges[0].label)
        return JOINT if self.source else PRETRAINED if self.task is None else INDIVIDUAL

    @property
    def title(self) -> str:
        """What is done."""
        return f"Encoding {self.split}: {self.model if self.task is None else f'expert of {self.task}'}"

    @property
    def needs(self) -> Sequence[Step]:
        """The weights, where they are made."""
        return () if self.source is None else (self.source,)

    @cached_property
    def key(self) -> str:
        """The digest of weights and inputs."""
        whose = self.source.key if self.source else [self.study.weights, self.task]
        of = None if self.split == "test" else seen_of(self.recipe)
        return key_of("encoded", __version__, whose, self.study.data, self.split, of, None if self.task else self.recipe.only)

    def done(self, store: Path) -> bool:  # noqa: ARG002
        """Say whether it has been done before."""
        return self._mark.is_file()

    def run(self, store: Path, stage: Stage) -> None:
        """Encode."""
        setting = opened(self.recipe)
        chosen = [task for task in setting.tasks if self.task in (None, task.name)]
        with stage(self.title, sum(len(task.split(self.split)) for task in chosen)) as progress:
            weights: Weights = setting.base if self.source is None else self.source.open(store)
            backbone = setting.backbone(setting.experts[self.task] if self.task else weights)
            for task in chosen:
                encode_cached(backbone, task.split(self.split).inputs, progress)
        self._mark.parent.mkdir(parents=True, exist_ok=True)
        self._mark.touch()

    @property
    def _mark(self) -> Path:
        # Beside what it tells of, which is in the cache, and may be cleared with it.
        return cache_folder() / "encoded" / self.key


def encoded(source: Merged | Trained, recipe: Recipe, *splits: str) -> list[Step]:
    """Return a model, and the steps that encode splits under it, and each task's under its expert."""
    study, once = source.study, dict.fromkeys(splits)
    merged = [Encoded(study, recipe, split, source) for split in once]
    return [source, *merged, *(each for split in once for each in experts_encoded(study, recipe, split))]


@dataclass(frozen=True)
class Fit(KeptStep):
    """The surgery of a merge, fitted by the recipe's procedure with its seed."""

    shelf = "surgery"

    @cached_property
    def merged(self) -> Merged:
        """The merge that it is of."""
        return Merged(self.study, self.study.merging(self.recipe))

    @property
    def title(self) -> str:
        """What is done."""
        (procedure,) = self.recipe.surgery
        return f"Operating on {self.recipe.merges[0].label}: {procedure.label}, {procedure.size}"

    @property
    def needs(self) -> Sequence[Step]:
        """The merge, and the representations that are learnt from, where the procedure looks at them."""
        if not getattr(self.recipe.surgery[0], "encodes", True):
            return (self.merged,)
        return encoded(self.merged, self.recipe, SPLIT_OF[self.recipe.calibration.mode])

    @cached_property
    def key(self) -> str:
        """The digest of the merge, and of the calibration set and the procedure."""
        (procedure,) = self.recipe.surgery
        told = [self.recipe.calibration.model_dump(mode="json"), procedure.model_dump(mode="json", exclude_defaults=True)]
        return key_of("fit", __version__, self.merged.key, self.study.data, procedure.procedure, told, self.recipe.seeds)

    def run(self, store: Path, stage: Stage) -> None:
        """Fit."""
        weights = self.merged.open(store)
        (procedure,), label, seeds = self.recipe.surgery, self.recipe.merges[0].label, self.recipe.seeds
        with representations(self.recipe, stage) as seen:
            (fitted,) = pipeline.fit_surgeries(seen.setting, self.recipe, procedure, label, weights, seen, seeds, stage)
        told = {"rank": fitted.origin.rank, "procedure": fitted.origin.kind}
        with made_whole(self.place(store)) as folder:
            save_operation(folder / "surgery.safetensors", fitted.operation, fitted.origin)
            (folder / "fit.json").write_text(json.dumps(told), encoding="utf-8")

    def open(self, store: Path) -> tuple[Operation, dict[str, Any]]:
        """Return the surgery, and what is told of its fit."""
        place = self.place(store)
        return load_operation(place / "surgery.safetensors"), json.loads((place / "fit.json").read_text(encoding="utf-8"))


@contextmanager
def made_whole(place: Path) -> Iterator[Path]:
    """Yield a folder that comes to stand at a place when the block has ended well; of two that make the same, one is kept."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".making-", dir=place.parent) as temporary:
        made = Path(temporary) / "made"
        made.mkdir()
        yield made
        try:
            made.rename(place)
        except OSError:
            if not place.is_dir():
                raise


def experts_encoded(study: Study, recipe: Recipe, split: str) -> list[Encoded]:
    """Return the steps that encode each task's split under its own expert."""
    return [Encoded(study, recipe, split, task=task) for task in recipe.only or study.tasks]
