"""Recipes: read, checked, anchored."""

from pathlib import Path

import pytest
import yaml

from suture.errors import InvalidRecipe
from suture.experiment import Recipe, demo_recipe_file, read_recipe, template_file
from suture.experiment.surgery_procedures import DeepClosedFormSurgery
from suture.merging import Ties
from suture.surgery import Schedule

TASK = {"name": "a", "expert": "e", "test": "t.csv", "calibration": "c.csv", "head": {"support": "s.csv"}}
EXPLODING = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(f"a{n}: &a{n} [{f'*a{n - 1}, ' * 10}]\n" for n in range(1, 5))
GOOD = {"base": "b", "tasks": [TASK], "merges": ["ties"]}


def write(folder: Path, content: object) -> Path:
    (folder / "recipe.yaml").write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return folder / "recipe.yaml"


def test_paths_are_relative_to_the_recipe(tmp_path: Path) -> None:
    recipe = read_recipe(write(tmp_path, GOOD | {"tasks": [TASK | {"expert": "/elsewhere/e"}]}))
    assert recipe.base == tmp_path / "b"
    assert recipe.tasks[0].expert == Path("/elsewhere/e")
    assert recipe.tasks[0].head.support == tmp_path / "s.csv"


def test_defaults_are_the_papers(tmp_path: Path) -> None:
    recipe = read_recipe(write(tmp_path, GOOD))
    assert recipe.surgery[0].fitting() == Schedule(rank=16, iterations=500, steps_per_iteration=2, batch_size=16, learning_rate=1e-3)
    assert recipe.merges == [Ties()]
    assert recipe.calibration.mode == "held-out"
    assert recipe.seeds == [0, 1, 2]


def test_a_method_by_name_or_with_settings(tmp_path: Path) -> None:
    recipe = read_recipe(write(tmp_path, GOOD | {"merges": ["ties", {"method": "ties", "density": 0.5}]}))
    assert recipe.merges == [Ties(), Ties(density=0.5)]
    assert recipe.model_dump(mode="json")["merges"][1] == {
        "method": "ties",
        "density": 0.5,
        "scale": 0.3,
        "scope": "model",
        "merge_rule": "sum",
    }


@pytest.mark.parametrize("file", [template_file(), demo_recipe_file("nlp8")], ids=["template", "suite"])
def test_what_is_written_of_a_recipe_is_that_recipe(file: Path, tmp_path: Path) -> None:
    recipe = read_recipe(file)
    assert read_recipe(write(tmp_path, recipe.model_dump(mode="json"))) == recipe
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


def test_the_template_names_what_there_is() -> None:
    recipe = read_recipe(template_file())
    assert [task.name for task in recipe.tasks] == ["films", "books"]
    assert recipe.base == template_file().parent / "bert-base"


@pytest.mark.fault(20, 21)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [", "is not YAML"),
        ("just text", "expected keys"),
        ({"merges": ["ties"]}, "give either 'suite', or 'base' and 'tasks'"),
        (GOOD | {"suite": "nlp8"}, "give either 'suite', or 'base' and 'tasks'"),
        ({"base": "b", "merges": ["ties"]}, "'base' and 'tasks' go together"),
        (GOOD | {"tasks": [TASK, TASK]}, "task names must differ"),
        (GOOD | {"merges": ["ties", {"method": "ties", "density": 0.2}]}, "merges must differ"),
        (GOOD | {"seeds": [1, 1]}, "seeds must differ"),
        (GOOD | {"seeds": [-1]}, "'seeds.0': Input should be greater than or equal to 0"),
        (GOOD | {"seeds": [2**32]}, "'seeds.0': Input should be less than 4294967296"),
        (GOOD | {"seeds": [1.0]}, "'seeds.0': Input should be a valid integer"),
        (GOOD | {"seeds": [True]}, "'seeds.0': Input should be a valid integer"),
        (GOOD | {"surgery": {"rank": True}}, "'surgery.0.rank': cannot be true"),
        (GOOD | {"merges": [{"method": "ties", "scale": True}]}, "'merges.0': scale must be a float, not True"),
        ({"suite": "nlp8", "merges": ["ties"], "backbone": {"pooling": "cls"}}, "a suite brings its own 'backbone'"),
        ({"suite": "nlp8", "merges": ["ties"], "tasks": [TASK]}, "give either 'suite', or 'base' and 'tasks'"),
        ({"suite": "nlp8", "merges": ["ties"], "base": "b"}, "give either 'suite', or 'base' and 'tasks'"),
        (GOOD | {"tasks": [TASK | {"name": "average"}]}, "'tasks.0.name': a task cannot be called 'average'"),
        (GOOD | {"tasks": [TASK | {"classes": ["x", "x"]}]}, "'tasks.0.classes': expected the names"),
        ("seeds: [0]\nmerges: [ties]\nseeds: [1]", "the key 'seeds' stands twice"),
        ("surgery: {rank: 4, 'rank': 8}", "the key 'rank' stands twice"),
        ("date: 2024-99-99", "is not YAML"),
        ('{"name": "\\ud800", merges: [ties]}', "surrogates not allowed"),
        ("name: &a [*a]", "a part of it holds itself"),
        ("- " * 3000, "is not YAML: RecursionError"),
        (EXPLODING, "its aliases make more than 100,000 parts of it"),
        (GOOD | {"merges": [{"method": "ties", 0.3: 1}]}, "'merges.0': unknown hyperparameter 0.3: expected a name"),
        (GOOD | {"merges": ["ties", "tie"]}, "'merges.1': unknown merging method 'tie'; did you mean 'ties'?"),
        (GOOD | {"merges": [{"method": "ties", "densty": 1}]}, "'merges.0': unknown hyperparameter of ties 'densty'"),
        (GOOD | {"merges": []}, "'merges'"),
        (GOOD | {"merges": [3]}, "expected the name of a method"),
        (GOOD | {"tasks": [{key: value for key, value in TASK.items() if key != "calibration"}]}, "missing for: a"),
        (GOOD | {"tasks": [TASK | {"head": {}}]}, "give one of 'support'"),
        (GOOD | {"tasks": [TASK | {"head": {"support": "s", "file": "f"}}]}, "give one of 'support'"),
        (GOOD | {"tasks": [TASK | {"head": {"prompts": "minst"}}]}, "'tasks.0.head.prompts': Input should be 'sun397'"),
        (GOOD | {"tasks": [TASK | {"head": {"prompts": "mnist", "scale": 5}}]}, "'scale' is for prototypes"),
        (GOOD | {"tasks": [TASK | {"test": {"dataset": "d"}}]}, "'tasks.0.test.split': Field required"),
        (GOOD | {"backbone": {"network": "nonsense"}}, "'backbone.network'"),
        (GOOD | {"tasks": [TASK | {"lable": "x"}]}, "unknown key 'tasks.0.lable'; did you mean 'label'"),
        (GOOD | {"calibration": {"mode": "heldout"}}, "'calibration.mode'"),
        (GOOD | {"surgery": {"rank": 0}}, "'surgery.0.rank'"),
        (GOOD | {"backbone": {"pooling": "max"}}, "'backbone.pooling'"),
    ],
)
def test_what_is_refused_and_why(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(InvalidRecipe) as caught:
        read_recipe(write(tmp_path, content))
    assert message in str(caught.value)
    assert str(tmp_path / "recipe.yaml") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_yaml_merge_keys_are_not_doubles(tmp_path: Path) -> None:
    text = "x: &x {rank: 4}\ny: &y {rank: 8}\nz: {<<: *x, <<: *y, rank: 2}"
    with pytest.raises(InvalidRecipe, match="unknown key 'x'"):
        read_recipe(write(tmp_path, text))


def test_an_absent_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidRecipe, match="cannot be read"):
        read_recipe(tmp_path / "absent.yaml")


def test_transductive_needs_no_calibration_file(tmp_path: Path) -> None:
    bare = {key: value for key, value in TASK.items() if key != "calibration"}
    assert read_recipe(write(tmp_path, GOOD | {"tasks": [bare], "calibration": {"mode": "transductive"}})).tasks[0].calibration is None


def test_what_is_true_or_false_may_be_said(tmp_path: Path) -> None:
    surgery = {"procedure": "deep_closed_form", "rank": 4, "allot": True}
    (procedure,) = read_recipe(write(tmp_path, GOOD | {"surgery": surgery})).surgery
    assert isinstance(procedure, DeepClosedFormSurgery)
    assert procedure.allots
    head = (
        Recipe.model_validate(GOOD | {"tasks": [TASK | {"head": {"saved": True}}], "calibration": {"mode": "transductive"}}).tasks[0].head
    )
    assert head.saved


def test_calibration_samples_are_a_number_or_a_share(tmp_path: Path) -> None:
    sizes = {}
    for samples in (32, "1%", 0.25, "100%", None):
        recipe = read_recipe(write(tmp_path, GOOD | {"calibration": {"samples": samples}}))
        assert read_recipe(write(tmp_path, recipe.model_dump(mode="json"))) == recipe
        sizes[samples] = recipe.calibration.size(1000)
    assert [read_recipe(write(tmp_path, GOOD | {"calibration": {"samples": s}})).calibration.size(100) for s in ("7%", "29%", "55%")] == [
        7,
        29,
        55,
    ]
    assert sizes == {32: 32, "1%": 10, 0.25: 250, "100%": 1000, None: 1000}
    for samples in (0, -1, 1.5, "0%", "101%", "many"):
        with pytest.raises(InvalidRecipe, match=r"'calibration\.samples': expected a number of samples"):
            read_recipe(write(tmp_path, GOOD | {"calibration": {"samples": samples}}))


def test_calibration_texts_come_from_the_task_the_others_or_a_file(tmp_path: Path) -> None:
    bare = {key: value for key, value in TASK.items() if key != "calibration"}
    recipe = read_recipe(write(tmp_path, GOOD | {"tasks": [bare], "calibration": {"source": "wild.csv"}}))
    assert recipe.calibration.source == tmp_path / "wild.csv"
    assert recipe.calibration.label == "held-out, wild.csv"
    assert read_recipe(write(tmp_path, GOOD | {"calibration": {"source": "others"}})).calibration.label == "held-out, other tasks"
    with pytest.raises(InvalidRecipe, match="missing for: a"):
        read_recipe(write(tmp_path, GOOD | {"tasks": [bare], "calibration": {"source": "others"}}))
    for wrong, message in (
        ({"source": 3}, "expected own, others or a file"),
        ({"text": "line"}, "'text' and 'image' name the column"),
    ):
        with pytest.raises(InvalidRecipe, match=message):
            read_recipe(write(tmp_path, GOOD | {"calibration": wrong}))
    with pytest.raises(InvalidRecipe, match="take out 'source'"):
        read_recipe(write(tmp_path, GOOD | {"calibration": {"mode": "transductive", "source": "others"}}))
