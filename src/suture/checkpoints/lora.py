"""PEFT LoRA adapters read as full expert weights: W + s·B·A, one tensor at a time.

``s = lora_alpha / r``, or ``lora_alpha / √r`` for rsLoRA (Kalajdzievski, 2023, arXiv 2312.03732); LoRA is Hu et al., 2022,
arXiv 2106.09685. Shapes: A is (r, in), B is (out, r); an embedding's A is (r, rows), B is (columns, r), and its update is (B·A)ᵀ.
"""

import json
import math
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from suture.checkpoints.reading import Checkpoint, TensorSpec, sha256_of
from suture.errors import CorruptCheckpoint, IncompatibleExperts, SutureWarning, UnsupportedFormat
from suture.task_vector import accumulation_dtype

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
FACTOR = re.compile(r"^(?P<module>.+)\.lora_(?P<kind>embedding_)?(?P<side>[AB])(\.weight)?$")
REFUSED = {
    "use_dora": "DoRA",
    "use_qalora": "QALoRA",
    "alora_invocation_tokens": "activated LoRA",
    "megatron_config": "Megatron LoRA",
}


@dataclass(frozen=True)
class LowRankUpdate:
    """Where the update of one base tensor lies in the adapter, and its scale."""

    a: str
    b: str
    scale: float
    transposed: bool


class LoraExpert(Mapping[str, Tensor]):
    """A base and a LoRA adapter, seen as the expert that the adapter makes of the base.

    Raises :class:`UnsupportedFormat` for other kinds of adapter, by name; :class:`IncompatibleExperts` when the adapter
    speaks of tensors that the base does not have. Modules saved whole (``modules_to_save``) that the base lacks, such as a
    classifier, are left out with a warning: only the backbone is merged.
    """

    def __init__(self, base: Checkpoint, folder: Path) -> None:
        self.path, self.base = folder, base
        self.adapter = Checkpoint(folder, [folder / WEIGHTS])
        self.config = _read_config(folder)
        self._updates: dict[str, LowRankUpdate] = {}
        self._replaced: dict[str, str] = {}
        self._place()

    @property
    def files(self) -> list[Path]:
        """The files that these weights come from."""
        return [*self.base.files, self.path / CONFIG, *self.adapter.files]

    @property
    def specs(self) -> dict[str, TensorSpec]:
        """Shape and dtype of every tensor: those of the base."""
        return self.base.specs

    @property
    def digest(self) -> str:
        """The identity of these weights: base and adapter."""
        return sha256_of(*self.files)

    def __getitem__(self, name: str) -> Tensor:
        if name in self._replaced:
            return self.adapter[self._replaced[name]]
        weight = self.base[name]
        if name not in self._updates:
            return weight
        update, wide = self._updates[name], accumulation_dtype(weight.dtype)
        product = self.adapter[update.b].to(wide) @ self.adapter[update.a].to(wide)
        delta = product.T if update.transposed else product
        if delta.shape != weight.shape:
            raise IncompatibleExperts(f"{self.path}: the update of {name!r} has shape {tuple(delta.shape)}, the base {tuple(weight.shape)}")
        return (weight.to(wide) + update.scale * delta).to(weight.dtype)

    def __iter__(self) -> Iterator[str]:
        return iter(self.base)

    def __len__(self) -> int:
        return len(self.base)

    def _place(self) -> None:
        """Find the base tensor of every adapter tensor."""
        strays, pairs = [], dict[tuple[str, bool], dict[str, str]]()
        for key in self.adapter:
            name = key.removeprefix(PREFIX)
            if match := FACTOR.match(name):
                pairs.setdefault((match["module"], bool(match["kind"])), {})[match["side"]] = key
            elif target := self._base_name(name.replace(".modules_to_save.default", "").replace(".base_layer", "")):
                self._replaced[target] = key
            else:
                strays.append(name)
        for (module, embedding), sides in pairs.items():
            target = self._base_name(f"{module}.weight")
            if target is None or sides.keys() != {"A", "B"}:
                raise IncompatibleExperts(
                    f"{self.path}: the adapter changes {module!r}, but {self.base.path} has no such weight (or A or B is missing)"
                )
            transposed = embedding or bool(self.config.get("fan_in_fan_out"))
            self._updates[target] = LowRankUpdate(sides["A"], sides["B"], self._scale(module), transposed)
        if strays:
            warnings.warn(
                f"{self.path}: left out, as the base has no such tensor: {', '.join(strays)}",
                SutureWarning,
                stacklevel=4,
            )

    def _base_name(self, name: str) -> str | None:
        """Match a module's name to the base's name on disk; either may carry a prefix such as ``bert.``."""
        if name in self.base:
            return name
        found = [key for key in self.base if key.endswith(f".{name}") or name.endswith(f".{key}")]
        return found[0] if len(found) == 1 else None

    def _scale(self, module: str) -> float:
        rank = _pattern(self.config.get("rank_pattern"), module, float(self.config["r"]))
        alpha = _pattern(self.config.get("alpha_pattern"), module, float(self.config["lora_alpha"]))
        return alpha / (math.sqrt(rank) if self.config.get("use_rslora") else rank)


def is_adapter(path: Path) -> bool:
    """Tell whether a folder is a PEFT adapter.

    >>> is_adapter(Path("."))
    False
    """
    return (path / CONFIG).is_file()


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        kind = config["peft_type"]
        if kind == "LORA" and not (config["r"] > 0 and math.isfinite(config["lora_alpha"])):
            raise ValueError("r or lora_alpha")  # noqa: TRY301
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptCheckpoint(f"{folder / CONFIG} is not the configuration of an adapter: {error!r}") from error
    if kind != "LORA":
        raise UnsupportedFormat(f"{folder}: adapters of type {kind} are not supported, only LORA; merge it into its base first")
    for option, name in REFUSED.items():
        if config.get(option):
            raise UnsupportedFormat(f"{folder}: {name} adapters ({option}) are not supported; merge it into its base first")
    return config


def _pattern(patterns: dict[str, Any] | None, module: str, default: float) -> float:
    """Look a module up among PEFT's per-module overrides, whose keys are regular expressions on the end of its name."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return float(value)
    return default
