"""A folder with all that the how-to pages speak of."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from docs.pages import DOCS, blocks

COLOURS, COUNTS = ("blue", "red"), ("one", "two")


@pytest.fixture
def world(bert: Path, make_expert: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all that the how-to pages name: base, experts, adapters, an old pickle, data, and the recipe of the page on data."""
    (tmp_path / "base").symlink_to(bert)
    *_, mail = [make_expert(name, seed) for seed, name in enumerate(("films", "books", "mail"), 1)]
    (tmp_path / "old").mkdir()
    torch.save({"state_dict": load_file(mail / "model.safetensors")}, tmp_path / "old" / "mail.pt")
    for seed, name in enumerate(("films", "books"), 1):
        save_adapter(tmp_path / "adapters" / name, rank=seed + 1)
    for split, size in (("unlabelled", 40), ("test", 30), ("few-per-class", 10)):
        save_table(tmp_path / "films" / f"{split}.csv", split, COLOURS, size, ("text", "label"))
        save_table(tmp_path / "books" / f"{split}.jsonl", split, COUNTS, size, ("review", "stars"))
    ((_, recipe), *_) = blocks(DOCS / "how" / "data.md", "yaml")
    assert set(yaml.safe_load(recipe)) >= {"base", "tasks", "merges"}
    (tmp_path / "recipe.yaml").write_text(recipe, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def save_adapter(folder: Path, rank: int) -> None:
    """Save a LoRA adapter of a rank of its own, as PEFT does."""
    folder.mkdir(parents=True)
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": ["query"], "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    noise, module = torch.Generator().manual_seed(rank), "base_model.model.encoder.layer.0.attention.self.query"
    shapes = {"A": (rank, 16), "B": (16, rank)}
    factors = {f"{module}.lora_{side}.weight": torch.randn(shape, generator=noise) for side, shape in shapes.items()}
    save_file(factors, folder / "adapter_model.safetensors")


def save_table(file: Path, split: str, classes: tuple[str, ...], size: int, columns: tuple[str, str]) -> None:
    """Save texts that name their class, with labels but for those to calibrate on."""
    file.parent.mkdir(exist_ok=True)
    rows = [{columns[0]: f"it is very {classes[i % len(classes)]} {split}{i}", columns[1]: classes[i % len(classes)]} for i in range(size)]
    if split == "unlabelled":
        rows = [{columns[0]: row[columns[0]]} for row in rows]
    with file.open("w", encoding="utf-8", newline="") as stream:
        if file.suffix == ".csv":
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        else:
            stream.write("".join(json.dumps(row) + "\n" for row in rows))
