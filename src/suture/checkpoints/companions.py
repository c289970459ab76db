"""The files beside the weights of a model folder: configuration, tokenizer and the like.

They are an allow-list, as anything may lie in a model folder: data, other weights, an index of shards that are gone, secrets.
"""

import shutil
from fnmatch import fnmatchcase
from pathlib import Path

from suture.checkpoints.reading import INDEX, OPEN_CLIP, Checkpoint
from suture.checkpoints.writing import write_text

FILES = (
    "config*.json",
    OPEN_CLIP,
    "generation_config.json",
    "tokenizer*.json",
    "tokenizer.model",
    "*.model",  # sentencepiece
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "preprocessor_config.json",
    "processor_config.json",
    "chat_template.jinja",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "LICENSE*",
)
MODULES = ("[0-9]*_Pooling", "[0-9]*_Normalize", "[0-9]*_Dense")


def copy_companions(source: Checkpoint, target: Path) -> None:
    """Copy the files that a model needs beside its weights; the index of shards goes last.

    Of sentence-transformers' module folders only ``config.json`` goes along. The companions of a single weights file are those of
    its folder, when that folder is a model's (it holds a configuration). Raises ``OSError`` as copying does.
    """
    folder = source.folder
    if folder != source.path and not source.described:
        return
    copy_files(folder, target)
    if len(source.files) > 1:
        write_text(target / INDEX, (source.path / INDEX).read_text(encoding="utf-8"))


def copy_files(folder: Path, target: Path) -> None:
    """Copy the files that a model's folder holds beside its weights; raises ``OSError`` as copying does."""
    for entry in sorted(folder.iterdir()):
        if entry.is_file() and _matches(entry.name, FILES):
            shutil.copyfile(entry, target / entry.name)
        elif entry.is_dir() and _matches(entry.name, MODULES) and (entry / "config.json").is_file():
            (target / entry.name).mkdir(exist_ok=True)
            shutil.copyfile(entry / "config.json", target / entry.name / "config.json")


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
