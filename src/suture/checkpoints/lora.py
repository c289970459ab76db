"""PEFT LoRA adapters read as full expert weights: W + s·B·A, one tensor at a time.

``s = lora_alpha / r``, or ``lora_alpha / √r`` for rsLoRA (Kalajdzievski, 2023, arXiv 2312.03732); LoRA is Hu et al., 2022,
arXiv 2106.09685. Shapes: A is (r, in), B is (out, r); an embedding's A is (r, rows), B is (columns, r), and its update is (B·A)ᵀ.
DoRA (Liu et al., 2024, arXiv 2402.09353) gives what every output is made of, a row of W + s·B·A, a length of its own, m (out,).
"""

import hashlib
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from torch import Tensor

from suture.checkpoints.adapter import CONFIG, rank_of, read_config, scale_of
from suture.checkpoints.reading import Checkpoint, TensorSpec, refuse_pickles, sha256_of
from suture.errors import IncompatibleExperts, SutureWarning, UnsupportedFormat
from suture.task_vector import accumulation_dtype

WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
MAGNITUDE = re.compile(r"^(?P<module>.+)\.lora_magnitude_vector(\.weight)?$")
FACTOR = re.compile(r"^(?P<module>.+)\.lora_(?P<kind>embedding_)?(?P<side>[AB])(\.weight)?$")


@dataclass(frozen=True)
class LowRankUpdate:
    """Where the update of one base tensor lies in the adapter, and its scale."""

    a: str
    b: str
    scale: float
    transposed: bool
    magnitude: str | None = None
    """DoRA's lengths."""


class LoraExpert(Mapping[str, Tensor]):
    """A base and a LoRA adapter, seen as the expert that the adapter makes of the base.

    Everything is checked when it is opened, from the headers. Raises :class:`UnsupportedFormat` for other kinds of adapter, by
    name, and for pickles; :class:`CorruptCheckpoint` for a spoilt configuration; :class:`IncompatibleExperts` when the adapter
    speaks of tensors that the base does not have, or has in another shape. Modules saved whole (``modules_to_save``) that the base
    lacks, such as a classifier, are left out with a warning: only the backbone is merged.
    """

    def __init__(self, base: Checkpoint, folder: Path) -> None:
        self.path, self.base = folder, base
        self.config = read_config(folder)
        if not (folder / WEIGHTS).is_file():
            refuse_pickles(folder)
        self.adapter = Checkpoint(folder, [folder / WEIGHTS])
        self._updates: dict[str, LowRankUpdate] = {}
        self._replaced: dict[str, str] = {}
        self._magnitudes: dict[str, str] = {}
        pairs, strays = self._place_replaced()
        self._place_updates(pairs)
        self._check_biases()
        if strays:
            warnings.warn(f"{folder}: left out, as the base has no such tensor: {', '.join(strays)}", SutureWarning, stacklevel=3)

    def __reduce__(self) -> tuple[type["LoraExpert"], tuple[Checkpoint, Path]]:
        """Where it is unpickled the adapter is opened anew."""
        return type(self), (self.base, self.path.absolute())

    @property
    def files(self) -> list[Path]:
        """The files that these weights come from."""
        return [*self.base.files, self.path / CONFIG, *self.adapter.files]

    @property
    def specs(self) -> dict[str, TensorSpec]:
        """Shape and dtype of every tensor: those of the base."""
        return self.base.specs

    @property
    def elements(self) -> int:
        """The number of elements of all tensors together: that of the base."""
        return self.base.elements

    @cached_property
    def digest(self) -> str:
        """The identity of these weights: base and adapter."""
        return sha256_of(*self.files)

    @cached_property
    def fingerprint(self) -> str:
        """A cheap identity: the fingerprints of base and adapter, and the configuration.

        It tells models apart; it does not prove integrity: :attr:`digest` does. Raises what :attr:`Checkpoint.fingerprint` raises.
        """
        parts = [self.base.fingerprint, self.adapter.fingerprint, sha256_of(self.path / CONFIG)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def __getitem__(self, name: str) -> Tensor:
        dtype = self.base.specs[name].dtype
        weight = self.adapter[self._replaced[name]].to(dtype) if name in self._replaced else self.base[name]
        if name not in self._updates:
            return weight
        update, wide = self._updates[name], accumulation_dtype(dtype)
        product = self.adapter[update.b].to(wide) @ self.adapter[update.a].to(wide)
        delta = product.T if update.transposed else product
        whole = weight.to(wide) + update.scale * delta
        if update.magnitude is not None:
            outputs = 1 if update.transposed else 0
            lengths = self.adapter[update.magnitude].to(wide).unsqueeze(1 - outputs)
            whole = whole * (lengths / whole.norm(dim=1 - outputs, keepdim=True))
        return whole.to(dtype)

    def __iter__(self) -> Iterator[str]:
        return iter(self.base)

    def __len__(self) -> int:
        return len(self.base)

    def _place_replaced(self) -> tuple[dict[tuple[str, bool], dict[str, str]], list[str]]:
        """Find the base tensor of every tensor saved whole; return the factors, by module, and what was left out."""
        pairs: dict[tuple[str, bool], dict[str, str]] = {}
        left_out: list[str] = []
        strays: list[str] = []
        for key in self.adapter:
            name = key.removeprefix(PREFIX)
            if match := FACTOR.match(name):
                sides = pairs.setdefault((match["module"], bool(match["kind"])), {})
                if sides.setdefault(match["side"], key) != key:
                    raise IncompatibleExperts(f"{self.path}: {sides[match['side']]!r} and {key!r} are the same factor")
            elif match := MAGNITUDE.match(name):
                self._magnitudes[match["module"]] = key
            elif "lora_" in name or "trainable_tokens" in name:
                strays.append(key)
            elif target := self._base_name(name.replace(".modules_to_save.default", "").replace(".base_layer", "")):
                self._replace(target, key)
            else:
                (left_out if self._saved_whole(name) else strays).append(name)
        if strays:
            raise IncompatibleExperts(
                f"{self.path}: the adapter holds what {self.base.path} has no place for: {', '.join(strays)};"
                " is it an adapter of this base?"
            )
        return pairs, left_out

    def _saved_whole(self, name: str) -> bool:
        """Tell whether a tensor is of a module that ``modules_to_save`` names, by the ends of modules' names as PEFT does."""
        parts = name.split(".")
        modules = [".".join(parts[:end]) for end in range(1, len(parts))]
        return any(module.endswith(saved) for module in modules for saved in self.config.get("modules_to_save") or [])

    def _replace(self, target: str, key: str) -> None:
        found, expected = self.adapter.specs[key], self.base.specs[target]
        if found.shape != expected.shape or found.dtype.is_floating_point != expected.dtype.is_floating_point:
            raise IncompatibleExperts(
                f"{self.path}: {key!r} replaces {target!r}, but is {found.shape} {found.dtype} where the base is"
                f" {expected.shape} {expected.dtype}"
            )
        if (other := self._replaced.setdefault(target, key)) != key:
            raise IncompatibleExperts(f"{self.path}: both {other!r} and {key!r} replace {target!r} of the base")

    def _place_updates(self, pairs: dict[tuple[str, bool], dict[str, str]]) -> None:
        """Find the base tensor of every pair of factors."""
        for (module, embedding), sides in pairs.items():
            target = self._base_name(f"{module}.weight")
            if target is None or sides.keys() != {"A", "B"}:
                raise IncompatibleExperts(
                    f"{self.path}: the adapter changes {module!r}, but {self.base.path} has no such weight (or A or B is missing)"
                )
            if target in self._updates:
                raise IncompatibleExperts(f"{self.path}: both {self._updates[target].a!r} and {sides['A']!r} change {target!r} of the base")
            transposed = embedding or bool(self.config.get("fan_in_fan_out"))
            magnitude = self._magnitudes.pop(module, None)
            update = LowRankUpdate(sides["A"], sides["B"], scale_of(self.config, module), transposed, magnitude)
            self._check_update(target, update, rank_of(self.config, module))
            self._updates[target] = update
        if self._magnitudes:
            raise IncompatibleExperts(f"{self.path}: {', '.join(self._magnitudes.values())} are of modules that have no A and B")

    def _check_update(self, target: str, update: LowRankUpdate, rank: float) -> None:
        """Check kinds and shapes of a base tensor and its factors."""
        a, b, weight = self.adapter.specs[update.a], self.adapter.specs[update.b], self.base.specs[target]
        if len(a.shape) > 2 or len(b.shape) > 2:
            raise UnsupportedFormat(f"{self.path}: LoRA of a convolution ({update.a!r}) is not supported; merge it into its base first")
        if not all(spec.dtype.is_floating_point for spec in (a, b, weight)):
            raise IncompatibleExperts(
                f"{self.path}: {target!r} is {weight.dtype}, its A {a.dtype}, its B {b.dtype}; expected floating point"
            )
        if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[0] != b.shape[1] or a.shape[0] != rank:
            raise IncompatibleExperts(
                f"{self.path}: the factors of {target!r} are A {a.shape} and B {b.shape};"
                f" expected A (r, in) and B (out, r) of rank {rank:g}"
            )
        lengths = self.adapter.specs[update.magnitude].shape if update.magnitude is not None else None
        if (lengths is None) == bool(self.config.get("use_dora")) or lengths not in {None, b.shape[:1]}:
            raise IncompatibleExperts(
                f"{self.path}: DoRA's lengths of {target!r} are {'absent' if lengths is None else lengths}; expected"
                f" {b.shape[:1] if self.config.get('use_dora') else 'none, as use_dora is off'}"
            )
        shape = (b.shape[0], a.shape[1])
        if (shape[::-1] if update.transposed else shape) != weight.shape:
            raise IncompatibleExperts(
                f"{self.path}: the update of {target!r} has shape {shape[::-1] if update.transposed else shape}, the base {weight.shape}"
            )

    def _check_biases(self) -> None:
        """Refuse an adapter that trained biases which it does not bring along."""
        trained = self.config.get("bias") or "none"
        if trained == "none":
            return
        if trained == "lora_only":
            biases = {target.removesuffix("weight") + "bias" for target in self._updates} & self.base.keys()
        else:
            biases = {name for name in self.base if name.endswith("bias")}
        absent = sorted(biases - self._replaced.keys())
        if absent or trained not in {"all", "lora_only"}:
            raise UnsupportedFormat(
                f"{self.path}: the adapter trained biases (bias={trained!r}), but does not hold {', '.join(absent) or 'them'};"
                " merge it into its base first"
            )

    def _base_name(self, name: str) -> str | None:
        """Match a module's name to the base's name on disk; either may carry a prefix such as ``bert.``."""
        if name in self.base:
            return name
        found = [key for key in self.base if key.endswith(f".{name}") or name.endswith(f".{key}")]
        return found[0] if len(found) == 1 else None
