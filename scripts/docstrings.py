"""Docstrings as Markdown: what the API pages make of the roles, doctests and literal blocks of the source."""

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|meth|func|data|attr|mod):`~?([^`]+)`")
LITERAL = re.compile(r"^( *)::$", re.MULTILINE)
DOCTEST = re.compile(r"(?:^ *>>> .*\n?(?:^ *\S.*\n?)*)(?:\n?^ *>>> .*\n?(?:^ *\S.*\n?)*)*", re.MULTILINE)


class Markdown(griffe.Extension):
    """Rewrite every docstring when it is read."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of a module, class, function or attribute."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(text: str) -> str:
    r"""Return a docstring with roles as code, doctests in fences, and literal blocks without their colons.

    >>> print(as_markdown("Raises :class:`DataError`.\n\n>>> 1 + 1\n2"))
    Raises `DataError`.
    <BLANKLINE>
    ```pycon
    >>> 1 + 1
    2
    ```
    """
    text = LITERAL.sub("", ROLE.sub(r"`\1`", text))
    return DOCTEST.sub(lambda found: f"```pycon\n{found[0].rstrip()}\n```\n", text).strip()
