"""Checkpoints on the Hugging Face hub: ``hf://owner/name``, with ``@revision`` if it is not the main one."""

from pathlib import Path

from suture.errors import CheckpointNotFound, in_short

SCHEME = "hf:"
FILES = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "LICENSE*"]
"""What is fetched: weights, and what lies beside them; pickles are not."""
PICKLED = ["pytorch_model*.bin", "pytorch_model.bin.index.json"]
"""What is fetched as well where pickles are asked for, to be converted."""


def on_hub(path: Path) -> bool:
    """Tell whether a path names a repository of the hub.

    >>> on_hub(Path("hf://openai/clip-vit-base-patch32")), on_hub(Path("clip"))
    (True, False)
    """
    return path.parts[:1] == (SCHEME,)


def local_copy(path: Path, *, pickles: bool = False) -> Path:
    """Return the folder of a repository of the hub in the local cache, fetched if it is not there; any other path as it is.

    ``pickles`` fetches those too, for :func:`suture.checkpoints.convert` alone.

    Cache and offline mode are huggingface_hub's own (``HF_HUB_CACHE``, ``HF_HUB_OFFLINE``).
    Raises :class:`CheckpointNotFound` when there is no such repository or revision, or it cannot be reached and is not in the cache.
    """
    if not on_hub(path):
        return path
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    name, _, revision = "/".join(path.parts[1:]).partition("@")
    told = f"hf://{name}" + (f"@{revision}" if revision else "")
    try:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=[*FILES, *(PICKLED if pickles else [])]))
    except HFValidationError as error:
        raise CheckpointNotFound(f"{told} names no repository; expected hf://owner/name or hf://owner/name@revision") from error
    except LocalEntryNotFoundError as error:
        raise CheckpointNotFound(f"{told} is not in the local cache, and the hub cannot be reached (or HF_HUB_OFFLINE is set)") from error
    except Exception as error:  # of the library, of what it fetches with, and of the system
        raise CheckpointNotFound(f"{told} cannot be fetched: {in_short(error)}") from error
