"""YAML as recipes are written in it: what plain YAML reads in silence, and nobody means, is an error."""

from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from suture.errors import InvalidRecipe, reading

MOST = 100_000
"""Parts that a text may have where every alias is written out: a few lines of aliases of aliases could stand for millions."""


def read_yaml(file: Path, expected: str = "YAML") -> Any:
    """Return what a file says; raises :class:`InvalidRecipe`, that it is not what was expected, for anything else than plain data."""
    with reading(file, expected, InvalidRecipe, InvalidRecipe):
        return yaml.load(file.read_text(encoding="utf-8"), _Strict)  # noqa: S506  a SafeLoader


class _Strict(yaml.SafeLoader):
    """A loader for which a key that stands twice, half a character and a text that explodes are errors."""

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None and _parts(node, {}) > MOST:
            raise ConstructorError(None, None, f"its aliases make more than {MOST:,} parts of it", node.start_mark)
        return node

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        value = super().construct_scalar(node)
        value.encode()  # YAML can spell half a character, which nobody can write
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if (key.tag, key.value) in seen:
                    raise ConstructorError(None, None, f"the key {key.value!r} stands twice", key.start_mark)
                seen.add((key.tag, key.value))
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


def _parts(node: yaml.Node, known: dict[int, int]) -> int:
    """Return how many parts a node has, aliases written out; ``known`` are those counted before, and 0 for those being counted."""
    if id(node) not in known:
        known[id(node)] = 0
        inside = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        known[id(node)] = 1 + sum(_parts(part, known) for part in inside) if isinstance(node, yaml.CollectionNode) else 1
    elif known[id(node)] == 0:
        raise ConstructorError(None, None, "a part of it holds itself", node.start_mark)
    return known[id(node)]
