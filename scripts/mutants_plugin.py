"""What every fork of a mutation test has at hand already, and the order of its tests: a plugin of pytest for scripts/mutants.py.

A change that a property-based test notices is noticed, and no smaller example of it is looked for. Draws are the same each time.
"""

import json
from pathlib import Path

import pytest
import transformers.models.auto.modeling_auto
import transformers.models.bert.modeling_bert
import transformers.models.bert.tokenization_bert  # noqa: F401
from hypothesis import Phase, settings

settings.register_profile("mutants", derandomize=True, database=None, deadline=None, phases=[Phase.explicit, Phase.generate])
settings.load_profile("mutants")

TIMES = Path("mutmut-stats.json")
"""Where mutmut keeps how long each test took."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run quick tests first: most mutants are noticed by any."""
    if TIMES.is_file():
        seconds = json.loads(TIMES.read_text(encoding="utf-8"))["duration_by_test"]
        items.sort(key=lambda item: seconds.get(item.nodeid, 0.0))
