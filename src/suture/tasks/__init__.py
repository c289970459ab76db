"""Floor 2: tasks, their data, and the suites that come with the package."""

from suture.tasks.data import read_split
from suture.tasks.datasets import DataSet, read_dataset
from suture.tasks.inputs import read_inputs
from suture.tasks.suites import SUITES, Suite, load_suite
from suture.tasks.task import Split, Task

__all__ = ["SUITES", "DataSet", "Split", "Suite", "Task", "load_suite", "read_dataset", "read_inputs", "read_split"]
