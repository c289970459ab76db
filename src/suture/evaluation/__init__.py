"""Floor 3: evaluation, and the rows that results are kept in."""

from suture.evaluation.accuracy import accuracy
from suture.evaluation.records import AVERAGE, COLUMNS, INDIVIDUAL, PRETRAINED, Model, Record, Results, Spread

__all__ = ["AVERAGE", "COLUMNS", "INDIVIDUAL", "PRETRAINED", "Model", "Record", "Results", "Spread", "accuracy"]
