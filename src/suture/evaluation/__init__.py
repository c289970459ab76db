"""Floor 3: evaluation, and the rows that results are kept in."""

from suture.evaluation.accuracy import accuracy
from suture.evaluation.markdown import markdown_lines
from suture.evaluation.records import AVERAGE, COLUMNS, INDIVIDUAL, JOINT, PRETRAINED, Model, Record, Results, Spread

__all__ = ["AVERAGE", "COLUMNS", "INDIVIDUAL", "JOINT", "PRETRAINED", "Model", "Record", "Results", "Spread", "accuracy", "markdown_lines"]
