"""Floor 3: evaluation, the rows that results are kept in, and how sure their differences are."""

from suture.evaluation.accuracy import accuracy
from suture.evaluation.bootstrap import Interval, average_interval, paired_interval
from suture.evaluation.markdown import markdown_lines
from suture.evaluation.records import AVERAGE, COLUMNS, INDIVIDUAL, JOINT, PRETRAINED, Model, Record, Results, Spread

__all__ = [
    "AVERAGE",
    "COLUMNS",
    "INDIVIDUAL",
    "JOINT",
    "PRETRAINED",
    "Interval",
    "Model",
    "Record",
    "Results",
    "Spread",
    "accuracy",
    "average_interval",
    "markdown_lines",
    "paired_interval",
]
