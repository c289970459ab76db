"""The start page says what the README says, whose commands and code are tested."""

from docs.pages import DOCS, ROOT, blocks


def test_commands_and_code_are_those_of_the_readme() -> None:
    for kind in ("sh", "python"):
        ((_, told),) = blocks(DOCS / "index.md", kind)
        assert told == blocks(ROOT / "README.md", kind)[0][1]
