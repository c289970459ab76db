"""The prompts of CLIP's eight tasks: as many classes as each task has, templates with one place for a name, and a source."""

import json
from pathlib import Path
from typing import Any

import pytest

import suture.tasks.suites

PROMPTS = Path(suture.tasks.suites.__file__).parent / "clip8" / "prompts"
SIZES = {  # task: (classes, templates)
    "sun397": (397, 2),
    "stanford_cars": (196, 8),
    "resisc45": (45, 18),
    "eurosat": (10, 3),
    "svhn": (10, 1),
    "gtsrb": (43, 3),
    "mnist": (10, 1),
    "dtd": (47, 8),
}


def read(task: str) -> dict[str, Any]:
    prompts: dict[str, Any] = json.loads((PROMPTS / f"{task}.json").read_text(encoding="utf-8"))
    return prompts


def test_there_is_a_file_for_each_task_and_no_other() -> None:
    assert {path.name for path in PROMPTS.iterdir()} == {f"{task}.json" for task in SIZES}


@pytest.mark.parametrize("task", SIZES)
def test_a_file_says_task_source_templates_and_classes(task: str) -> None:
    prompts = read(task)
    assert list(prompts) == ["task", "source", "templates", "classes"]
    assert prompts["task"] == task
    assert (len(prompts["classes"]), len(prompts["templates"])) == SIZES[task]


@pytest.mark.parametrize("task", SIZES)
def test_templates_have_one_place_for_a_name(task: str) -> None:
    templates = read(task)["templates"]
    assert len(set(templates)) == len(templates)
    for template in templates:
        assert template.count("{}") == template.count("{") == template.count("}") == 1
        assert template == template.strip()


@pytest.mark.parametrize("task", SIZES)
def test_class_names_are_distinct_and_plain(task: str) -> None:
    classes = read(task)["classes"]
    assert len(set(classes)) == len(classes)
    for name in classes:
        assert name == " ".join(name.split())
        assert name
        assert name.isascii()
        assert "_" not in name


@pytest.mark.parametrize("task", SIZES)
def test_the_source_says_where_templates_and_classes_are_from(task: str) -> None:
    source = read(task)["source"]
    assert set(source) == {"templates", "classes"}
    for text in source.values():
        assert "mlfoundations/task_vectors" in text
        assert f"clip_classification/{task}.py" in text


@pytest.mark.parametrize("task", ["sun397", "resisc45", "dtd"])
def test_labels_of_folders_are_in_the_order_of_their_names(task: str) -> None:
    classes = read(task)["classes"]
    assert classes == sorted(classes)


@pytest.mark.parametrize("task", ["svhn", "mnist"])
def test_labels_of_digits_are_the_digits(task: str) -> None:
    assert read(task)["classes"] == [str(digit) for digit in range(10)]


@pytest.mark.parametrize(
    ("task", "label", "name"),
    [
        ("sun397", 206, "jail cell"),
        ("sun397", 396, "youth hostel"),
        ("stanford_cars", 0, "AM General Hummer SUV 2000"),
        ("stanford_cars", 173, "Ram C/V Cargo Van Minivan 2012"),
        ("stanford_cars", 195, "smart fortwo Convertible 2012"),
        ("eurosat", 0, "annual crop land"),
        ("eurosat", 9, "lake or sea"),
        ("gtsrb", 0, "red and white circle 20 kph speed limit"),
        ("gtsrb", 14, "stop"),
        ("dtd", 30, "polka-dotted"),
    ],
)
def test_labels_known_from_the_data_sets(task: str, label: int, name: str) -> None:
    assert read(task)["classes"][label] == name
