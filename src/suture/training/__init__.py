"""Floor 3: training with labels, for the baseline that merging is compared with."""

from suture.training.fine_tuning import FineTuning, fine_tune

__all__ = ["FineTuning", "fine_tune"]
