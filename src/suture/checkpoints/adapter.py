"""The configuration of a PEFT adapter folder: what is refused by name, and the rank and scale of each module."""

import math
import re
from pathlib import Path
from typing import Any

from suture.checkpoints.header import parsed, text_of
from suture.errors import CorruptCheckpoint, UnsupportedFormat, reading

CONFIG = "adapter_config.json"
REFUSED = {
    "use_qalora": "QALoRA",
    "use_bdlora": "block-diagonal LoRA",
    "kasa_config": "KaSA",
    "monteclora_config": "MonteCLoRA",
    "arrow_config": "Arrow",
    "alora_invocation_tokens": "activated LoRA",
    "megatron_config": "Megatron LoRA",
    "lora_bias": "LoRA-with-bias",
    "trainable_token_indices": "trainable-token",
    "target_parameters": "LoRA-on-parameters",
    "layer_replication": "layer-replicating",
}
# The schemes that leave the base's weights alone, so that base and adapter make the expert. PiSSA, OLoRA, CorDA, LoftQ and LoRA-GA
# take a part out of the base; what a scheme of a later PEFT does is not known.
HARMLESS_INITS = {"gaussian", "eva", "orthogonal", "mica"}


def is_adapter(path: Path) -> bool:
    """Tell whether a folder is a PEFT adapter.

    >>> is_adapter(Path("."))
    False
    """
    return (path / CONFIG).is_file()


def read_config(folder: Path) -> dict[str, Any]:
    """Return the configuration of a LoRA adapter.

    Raises :class:`CorruptCheckpoint` when it is not one, and :class:`UnsupportedFormat` for what A and B alone do not describe.
    """
    file = folder / CONFIG
    with reading(file, "the configuration of an adapter", absent=CorruptCheckpoint):
        config: dict[str, Any] = parsed(text_of(file))
        kind = config["peft_type"]
        if kind == "LORA" and not (config["r"] > 0 and math.isfinite(config["lora_alpha"])):
            raise ValueError("r or lora_alpha")
        _check_saved(config)
        for option in ("rank_pattern", "alpha_pattern"):
            _check_patterns(config, option)
    if kind != "LORA":
        raise UnsupportedFormat(f"{folder}: adapters of type {kind} are not supported, only LORA; merge it into its base first")
    for option, name in REFUSED.items():
        if config.get(option):
            raise UnsupportedFormat(f"{folder}: {name} adapters ({option}) are not supported; merge it into its base first")
    init = config.get("init_lora_weights", True)
    if isinstance(init, str) and init.lower() not in HARMLESS_INITS:
        raise UnsupportedFormat(
            f"{folder}: adapters begun with init_lora_weights={init!r} go with a changed base, not with the base on disk;"
            " convert it to plain LoRA (PEFT's path_initial_model_for_weight_conversion) or merge it into its base first"
        )
    return config


def rank_of(config: dict[str, Any], module: str) -> float:
    """Return the rank that the configuration gives a module."""
    return _pattern(config.get("rank_pattern"), module, float(config["r"]))


def scale_of(config: dict[str, Any], module: str) -> float:
    """Return what B·A is multiplied by: α/r, or α/√r for rsLoRA."""
    rank, alpha = rank_of(config, module), _pattern(config.get("alpha_pattern"), module, float(config["lora_alpha"]))
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _check_saved(config: dict[str, Any]) -> None:
    saved = config.get("modules_to_save") or []
    if not (isinstance(saved, list) and all(isinstance(name, str) for name in saved)):
        raise TypeError(f"modules_to_save: {saved!r} is not a list of names")


def _check_patterns(config: dict[str, Any], option: str) -> None:
    """Raise ``ValueError`` or ``TypeError`` for per-module overrides that would fail, or mislead, when looked up."""
    for pattern, value in (config.get(option) or {}).items():
        try:
            _regex(pattern)
        except re.error as error:
            raise ValueError(f"{option}: {pattern!r} is not a regular expression ({error})") from error
        if not math.isfinite(value) or (option == "rank_pattern" and value <= 0):
            raise ValueError(f"{option}: {pattern!r} is given {value!r}")


def _pattern(patterns: dict[str, Any] | None, module: str, default: float) -> float:
    """Look a module up among PEFT's per-module overrides, whose keys are regular expressions on the end of its name."""
    for pattern, value in (patterns or {}).items():
        if _regex(pattern).match(module):
            return float(value)
    return default


def _regex(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(.*\.)?({pattern})$")
