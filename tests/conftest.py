"""Fixtures: a tiny BERT on disk, experts of it, and small data sets."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

CLASSES = {"colours": ("red", "blue"), "numbers": ("one", "two", "three"), "pets": ("cat", "dog")}
WORDS = ["the", "a", "is", "it", "very", "not", "so", *(name for names in CLASSES.values() for name in names)]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("filterwarnings", "error::suture.errors.SutureWarning")
    os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every test out of the user's cache."""
    monkeypatch.setenv("SUTURE_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of two layers, width 16, saved as transformers saves it."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("bert") / "base"
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        initializer_range=0.3,
    )
    torch.manual_seed(0)
    BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    BertTokenizerFast(vocab={word: place for place, word in enumerate(vocabulary)}).save_pretrained(folder)
    return folder


@pytest.fixture
def make_expert(bert: Path, tmp_path: Path) -> Callable[..., Path]:
    """Make an expert: the base and a seeded change of every tensor."""

    def make(name: str, seed: int, size: float = 0.05) -> Path:
        folder, noise = tmp_path / "experts" / name, torch.Generator().manual_seed(seed)
        folder.mkdir(parents=True)
        tensors = load_file(bert / "model.safetensors")
        changed = {key: value + size * torch.randn(value.shape, generator=noise) for key, value in tensors.items()}
        save_file(changed, folder / "model.safetensors", metadata={"format": "pt"})
        for companion in ("config.json", "tokenizer.json", "tokenizer_config.json"):
            (folder / companion).write_bytes((bert / companion).read_bytes())
        return folder

    return make


@pytest.fixture
def experts(make_expert: Callable[..., Path]) -> dict[str, Path]:
    """Three experts, one per task of ``CLASSES``."""
    return {task: make_expert(task, seed) for seed, task in enumerate(CLASSES, 1)}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Texts of three tasks: support and test as csv, parquet or jsonl, calibration without labels."""
    import pyarrow
    import pyarrow.parquet

    folder = tmp_path / "data"
    folder.mkdir()
    for seed, (task, classes) in enumerate(CLASSES.items()):
        noise = torch.Generator().manual_seed(seed)
        for split, size in (("support", 4 * len(classes)), ("calibration", 40), ("test", 30)):
            rows = [_row(classes, place, split, noise) for place in range(size)]
            if split == "calibration":
                rows = [{"text": row["text"]} for row in rows]
            if task == "colours":
                pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / f"{task}-{split}.parquet")
            elif task == "numbers":
                lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
                (folder / f"{task}-{split}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
            else:
                (folder / f"{task}-{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def _row(classes: tuple[str, ...], place: int, split: str, noise: torch.Generator) -> dict[str, str]:
    filler = [WORDS[i] for i in torch.randint(0, 7, (6,), generator=noise).tolist()]
    marker = {"support": "support", "calibration": "cal", "test": "test"}[split]
    label = classes[place % len(classes)]
    return {"text": " ".join([*filler, label, f"{marker}{place}"]), "label": label}


@pytest.fixture
def recipe_file(bert: Path, experts: dict[str, Path], data: Path, tmp_path: Path) -> Path:
    """A recipe of one's own: three tasks, two merges."""
    import yaml

    suffix = {"colours": "parquet", "numbers": "csv", "pets": "jsonl"}
    tasks = [
        {
            "name": task,
            "expert": str(experts[task]),
            "test": f"data/{task}-test.{suffix[task]}",
            "calibration": f"data/{task}-calibration.{suffix[task]}",
            "head": {"support": f"data/{task}-support.{suffix[task]}"},
        }
        for task in CLASSES
    ]
    recipe = {
        "name": "tiny",
        "base": str(bert),
        "backbone": {"pooling": "mean", "max_length": 16},
        "tasks": tasks,
        "merges": [{"method": "task_arithmetic", "scale": 0.3}, "weight_averaging"],
        "calibration": {"mode": "held-out", "samples": 24},
        "surgery": {"rank": 4, "iterations": 20},
        "seeds": [0, 1],
    }
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return file
