"""Floor 4: the multi-task model: one backbone, and of each task what is its own; saved, loaded, asked, exported."""

from suture.multitask.facts import Facts, TaskFacts
from suture.multitask.fold import fold
from suture.multitask.folder import folder_of, from_pretrained, push_to_hub, read_description, save_pretrained, trusted
from suture.multitask.model import ALL, AUTO, MultiTaskModel, Prediction
from suture.multitask.router import Router, fit_router

__all__ = [
    "ALL",
    "AUTO",
    "Facts",
    "MultiTaskModel",
    "Prediction",
    "Router",
    "TaskFacts",
    "fit_router",
    "fold",
    "folder_of",
    "from_pretrained",
    "push_to_hub",
    "read_description",
    "save_pretrained",
    "trusted",
]
