"""What is measured of one model with one seed: accuracy, bias, cost. Each measurement is a step whose result is a small JSON file."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from suture import __version__
from suture.checkpoints import staged_file
from suture.checkpoints.writing import write_text
from suture.engine import Step
from suture.evaluation import INDIVIDUAL, PRETRAINED
from suture.experiment.pipeline import Representations
from suture.experiment.setting import Setting
from suture.paper.steps import Encoded, Fit, Merged, StudyStep, Trained, encoded, experts_encoded
from suture.paper.study import key_of, representations
from suture.representation import representation_bias
from suture.surgery import Operation
from suture.types import Stage


@dataclass(frozen=True)
class Bench:
    """What a measurement may look at."""

    setting: Setting
    representations: Representations
    store: Path
    stage: Stage


@dataclass(frozen=True)
class Measure(StudyStep, ABC):
    """One measurement."""

    kind: ClassVar[str]

    @property
    @abstractmethod
    def title(self) -> str:
        """What is measured."""

    @cached_property
    def merged(self) -> Merged:
        """The merge that it is of."""
        return Merged(self.study, self.study.merging(self.recipe))

    @cached_property
    def fit(self) -> Fit:
        """The fit of the recipe's surgery."""
        return Fit(self.study, self.recipe)

    @property
    def told(self) -> Sequence[object]:
        """What makes its result another, beside experts, data and recipe."""
        return ()

    @cached_property
    def key(self) -> str:
        """The digest of all that the result depends on."""
        recipe = self.recipe.model_dump(mode="json", exclude={"name"}, exclude_defaults=True)
        procedures = [procedure.procedure for procedure in self.recipe.surgery]
        return key_of(self.kind, __version__, self.merged.key, self.study.data, recipe, procedures, self.told)

    def file(self, store: Path) -> Path:
        """Return where its result is."""
        return store / "measured" / self.key[:2] / f"{self.key}.json"

    def done(self, store: Path) -> bool:
        """Say whether it has been measured before."""
        return self.file(store).is_file()

    def run(self, store: Path, stage: Stage) -> None:
        """Measure, and write the result whole or not at all."""
        with representations(self.recipe, stage) as seen:
            found = self.measure(Bench(seen.setting, seen, store, stage))
        with staged_file(self.file(store), replace=True, wait=True) as part:
            write_text(part, json.dumps({"title": self.title, **found}))

    @abstractmethod
    def measure(self, bench: Bench) -> dict[str, Any]:
        """Return what was found, as plain values."""


def per_task(
    bench: Bench, seen: Mapping[str, Tensor], expert: Mapping[str, Tensor] | None = None, operation: Operation | None = None
) -> dict[str, dict[str, Any]]:
    """Return each task's accuracy, bias and parameters, and for every test sample whether it was classified right, as a 0 or a 1."""
    found = {}
    for task in bench.setting.tasks:
        z = seen[task.name]
        right = bench.setting.heads[task.name](z).argmax(dim=1) == task.split("test").known_labels()
        own: dict[str, Any] = {"accuracy": float(right.double().mean()), "right": "".join(str(int(each)) for each in right)}
        if expert is not None:
            bias = representation_bias(z, expert[task.name])
            own |= {"bias_l1": bias.l1, "bias_mean_abs": bias.mean_abs}
        if operation is not None:
            own["parameters"] = operation.parameters(task.name)
        found[task.name] = own
    return found


@dataclass(frozen=True)
class Baseline(Measure):
    """The base, or the experts, as they are."""

    model: str = PRETRAINED
    kind = "baseline"

    @property
    def title(self) -> str:
        """What is measured."""
        return f"Measuring: {self.model}"

    @cached_property
    def key(self) -> str:
        """The digest of model and data; no merge matters."""
        return key_of(self.kind, __version__, self.study.weights, self.study.data, self.model, self.recipe.only)

    @property
    def needs(self) -> Sequence[Step]:
        """The representations."""
        experts = experts_encoded(self.study, self.recipe, "test")
        return experts if self.model == INDIVIDUAL else [*experts, Encoded(self.study, self.recipe, "test")]

    def measure(self, bench: Bench) -> dict[str, Any]:
        """Measure under the frozen heads."""
        expert = bench.representations.individual("test")
        own = expert if self.model == INDIVIDUAL else bench.representations.shared(PRETRAINED, bench.setting.base, "test")
        size = sum(parameter.numel() for parameter in bench.setting.backbone(bench.setting.base).model.parameters())
        return {"tasks": per_task(bench, own, expert), "parameters": size}


@dataclass(frozen=True)
class Joint(Measure):
    """The base fine-tuned on all tasks together."""

    kind = "joint"

    @property
    def title(self) -> str:
        """What is measured."""
        return "Measuring: joint training"

    @cached_property
    def trained(self) -> Trained:
        """The training."""
        return Trained(self.study, self.recipe)

    @property
    def needs(self) -> Sequence[Step]:
        """The representations."""
        return encoded(self.trained, self.recipe, "test")

    def measure(self, bench: Bench) -> dict[str, Any]:
        """Measure under the frozen heads."""
        test = bench.representations.shared("joint", self.trained.open(bench.store), "test")
        return {"tasks": per_task(bench, test, bench.representations.individual("test"))}


@dataclass(frozen=True)
class Plain(Measure):
    """A merge without surgery."""

    kind = "plain"

    @property
    def title(self) -> str:
        """What is measured."""
        return f"Measuring: {self.recipe.merges[0].label}"

    @cached_property
    def key(self) -> str:
        """The digest of merge and data; no surgery matters."""
        return key_of(self.kind, self.merged.key, self.study.data)

    @property
    def needs(self) -> Sequence[Step]:
        """The representations."""
        return encoded(self.merged, self.recipe, "test")

    def measure(self, bench: Bench) -> dict[str, Any]:
        """Measure under the frozen heads."""
        test = bench.representations.shared("merged", self.merged.open(bench.store), "test")
        return {"tasks": per_task(bench, test, bench.representations.individual("test"))}


@dataclass(frozen=True)
class Operated(Measure):
    """A merge after the recipe's surgery, fitted with its seed."""

    kind = "operated"

    @property
    def title(self) -> str:
        """What is measured."""
        return self.fit.title.replace("Operating on", "Measuring", 1)

    @cached_property
    def key(self) -> str:
        """The digest of the fit."""
        return key_of(self.kind, self.fit.key, self.told)

    @property
    def needs(self) -> Sequence[Step]:
        """The surgery, and the representations that it is measured by."""
        return [self.fit, *encoded(self.merged, self.recipe, "test")]

    def measure(self, bench: Bench) -> dict[str, Any]:
        """Measure under the frozen heads."""
        (operation, told), weights = self.fit.open(bench.store), self.merged.open(bench.store)
        after = bench.representations.after(operation, self.recipe.merges[0].label, weights, "test")
        return {**told, "tasks": per_task(bench, after, bench.representations.individual("test"), operation)}
