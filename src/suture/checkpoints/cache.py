"""Where Suture keeps what it can compute again."""

import os
from pathlib import Path

from platformdirs import user_cache_path


def cache_folder() -> Path:
    """Return ``$SUTURE_CACHE``, or the user's cache folder."""
    return Path(os.environ.get("SUTURE_CACHE") or user_cache_path("suture"))
