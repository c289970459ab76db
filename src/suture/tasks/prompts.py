"""Prompts of zero-shot heads: the names of a task's classes as texts say them, and templates to put them in."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from suture.errors import DataError

Known = Literal["sun397", "stanford_cars", "resisc45", "eurosat", "svhn", "gtsrb", "mnist", "dtd"]
"""The tasks whose prompts come with Suture: the papers' eight, in their order."""

KNOWN: tuple[Known, ...] = get_args(Known)
HERE = Path(__file__).parent / "suites" / "clip8" / "prompts"


@dataclass(frozen=True)
class Prompts:
    """Class names, in the order of the labels, and templates with one ``{}`` each.

    >>> Prompts(["a cat", "a dog"], ["a photo of {}."]).texts
    [['a photo of a cat.'], ['a photo of a dog.']]
    """

    classes: list[str]
    templates: list[str]

    def __post_init__(self) -> None:
        if len(self.classes) < 1 or len(set(self.classes)) != len(self.classes) or not self.templates:
            raise DataError("prompts need at least one class, each once, and at least one template")
        if wrong := [template for template in self.templates if template.count("{}") != 1]:
            raise DataError(f"a template has one {{}} for the name of a class; found {wrong[0]!r}")

    @property
    def texts(self) -> list[list[str]]:
        """Every class's texts, one per template."""
        return [[template.replace("{}", name) for template in self.templates] for name in self.classes]


class _Content(BaseModel):
    """What a file of prompts holds."""

    model_config = ConfigDict(strict=True)

    classes: list[str]
    templates: list[str]


def read_prompts(place: Known | Path) -> Prompts:
    """Read the prompts of a task that Suture knows, or of a JSON file with ``classes`` and ``templates``, lists of texts.

    Raises :class:`DataError` naming the file.

    >>> read_prompts("mnist").texts[3]
    ['a photo of the number: "3".']
    """
    file = HERE / f"{place}.json" if isinstance(place, str) else place
    try:
        content = _Content.model_validate_json(file.read_bytes())
        return Prompts(content.classes, content.templates)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from error
    except ValidationError as error:
        raise DataError(f"{file}: expected JSON with the keys 'classes' and 'templates', each a list of texts") from error
    except DataError as error:
        raise DataError(f"{file}: {error}") from error
