"""Floor 5: the multi-task model over HTTP."""

from suture.serving.app import make_app, serve
from suture.serving.batcher import Batcher, Busy
from suture.serving.limits import Limits

__all__ = ["Batcher", "Busy", "Limits", "make_app", "serve"]
