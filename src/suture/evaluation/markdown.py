"""Tables in markdown."""

from collections.abc import Sequence


def markdown_lines(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    r"""Return a table's lines; all columns but the first are numbers, to the right.

    >>> print(*markdown_lines(["task", "%"], [["a|b", "1.0"]]), sep="\n")
    | task | % |
    | --- | ---: |
    | a\|b | 1.0 |
    """
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return [f"| {' | '.join(map(_cell, line))} |" for line in lines]


def _cell(text: str) -> str:
    """Keep a name from ending its cell or its row."""
    return " ".join(text.replace("|", "\\|").splitlines())
