"""Mutated indices, manifests and recipes: read, or refused by an error of ours, and nothing outside of their folder is looked at."""

import json
from functools import partial
from pathlib import Path
from random import Random

import pytest
import torch
import yaml
from safetensors.torch import save_file

from gates.figures import Figure, check_message, survey
from gates.mutating import PATHS, Pairs, mutate_bytes, mutate_tree, text_of, tree_of
from suture.checkpoints import Manifest, check_output, open_checkpoint, read_manifest, staged_folder, verify
from suture.checkpoints.manifest import MANIFEST
from suture.checkpoints.reading import INDEX
from suture.errors import InvalidRecipe, OutputExists, SutureError
from suture.experiment.recipe import read_recipe, template_file

INDICES = Figure("mutated indices", suite=9_000, soak=450_000)
MANIFESTS = Figure("mutated manifests", suite=9_000, soak=450_000)
RECIPES = Figure("mutated recipes", suite=2_000, soak=100_000)
TOKENS = rb'"weight_map" "metadata" null {} [] "../x" "a":"one.safetensors", \u0000 \ud800 1e999 , : "'.split()
YAML_TOKENS = [
    token.encode()
    for token in r"""!!python/object/apply:os.system ['touch x']
!!python/name:os.system
!!binary x
!!timestamp x
!!int ''
!!int x
!!bool x
!!float ''
!!null x
!!set {a}
!!omap [a]
!!pairs [a]
!!map [a]
!!seq {a: b}
!!str [a]
! a
!<x> a
&a
*a
&a [*a]
<<: *a
<<: [*a, *a]
<<: 1
{[a]: b}
%YAML 9.9
%TAG ! x
---
...
2001-13-99
2001-01-01
0x
0b2
1:99:99
=
~
.nan
.inf
-.inf
1e999
true
"\ud800"
"\U00110000"
"\0"
null""".splitlines()
]
YAML_TOKENS += [b"? [a]\n: b", b"- ", b"\t", b"\n", b"\n  ", b": ", b"|\n", b">\n", b"# ", b"'", b'"', b"\x00", b"\xff", b"\xef\xbb\xbf"]
YAML_TOKENS += ["\u2028".encode(), b"9" * 5000, b"[" * 2000, b"- " * 2000]


def written(folder: Path, name: str, content: bytes) -> Path:
    file = folder / name
    file.write_bytes(content)
    return file


def mutated_json(valid: list[str], number: int) -> bytes:
    """Return what a number makes of one of several JSON texts."""
    random = Random(number)
    text = random.choice(valid)
    if random.random() < 0.3:
        return mutate_bytes(text.encode(), random, TOKENS)
    tree = tree_of(text)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        tree = mutate_tree(tree, random) if isinstance(tree, Pairs) else tree
    return text_of(tree, random.choice(("", " ", "\n"))).encode(errors="surrogatepass")


@pytest.fixture
def shards(room: Path) -> Path:
    """A model in two files, another file beside them and one above."""
    folder = room / "model"
    folder.mkdir()
    save_file({"a": torch.ones(2), "b": torch.arange(3)}, folder / "one.safetensors")
    save_file({"c.weight": torch.zeros(2, 2)}, folder / "two.safetensors")
    save_file({"d": torch.zeros(1)}, room / "x")
    (folder / "link.safetensors").symlink_to(room / "x")
    return folder


WEIGHT_MAP = {"a": "one.safetensors", "b": "one.safetensors", "c.weight": "two.safetensors"}
INDEX_TEXTS = [
    json.dumps({"metadata": {"total_size": 48}, "weight_map": WEIGHT_MAP}),
    json.dumps({"weight_map": WEIGHT_MAP}, indent=2),
    json.dumps({"weight_map": {**WEIGHT_MAP, "d": "link.safetensors"}}),
]


def index_opened(folder: Path, raw: bytes) -> str:
    written(folder, INDEX, raw)
    try:
        checkpoint = open_checkpoint(folder)
        names = list(checkpoint.specs)
    except SutureError as error:
        check_message(error, folder, len(raw))
        return type(error).__name__
    told = json.loads(raw)["weight_map"]
    assert set(names) == set(told), f"opened with {names}"
    assert told.items() <= WEIGHT_MAP.items()
    assert {file.name for file in checkpoint.files} == set(told.values())
    return "opened"


@pytest.mark.fault(2, 3, 5, 6)
def test_mutated_indices_open_what_they_should_or_nothing(shards: Path) -> None:
    tally = survey(INDICES, range(INDICES.trials), partial(mutated_json, INDEX_TEXTS), partial(index_opened, shards))
    tally.check()
    assert min(tally[kind] for kind in ("opened", "CorruptCheckpoint", "UnsafePath")) > tally.total() / 50, tally.counts


def manifest_read(out: Path, whole: Manifest, raw: bytes) -> str:
    """See whether a folder with this manifest would be replaced: only if it is one of ours, as it was written, and tells of all in it."""
    written(out, MANIFEST, raw)
    found = read_manifest(out)
    verify(out)  # says what is wrong, and raises nothing
    try:
        check_output(out, replace=True)
    except OutputExists as error:
        check_message(error, out, len(raw))
        if found is None:
            return "not ours"
        assert "a.txt" not in found.files
        assert "holds what Suture did not write: a.txt;" in str(error)  # noqa: PT017
        return "ours, and more is there"
    assert found is not None
    told = json.loads(raw)
    assert told.get("writer", "suture") == found.writer == "suture"
    assert not told.get("digest") or found == whole, "the seal does not tell that something has changed"
    assert found.files == told.get("files", {})
    return "whole" if found.model_copy(update={"digest": whole.digest}) == whole else "ours"


@pytest.mark.fault(2, 10)
def test_mutated_manifests_are_read_as_they_stand_or_are_not_ours(room: Path) -> None:
    out, manifest = room / "out", Manifest(settings={"method": "ties", "seeds": [0, 1]}, inputs={"base": "fingerprint:0"})
    with staged_folder(out, manifest) as stage:
        (stage / "a.txt").write_text("a")
    whole = read_manifest(out)
    assert whole is not None
    unsealed = whole.model_copy(update={"digest": ""})
    sealed = (out / MANIFEST).read_text(encoding="utf-8")
    texts = [sealed, unsealed.model_dump_json(indent=2), unsealed.model_dump_json(exclude_defaults=True)]
    tally = survey(MANIFESTS, range(MANIFESTS.trials), partial(mutated_json, texts), partial(manifest_read, out, whole))
    tally.check()
    assert min(tally[kind] for kind in ("whole", "ours", "ours, and more is there", "not ours")) > tally.total() / 100, tally.counts


RECIPE = {
    "name": "tiny",
    "base": "base",
    "backbone": {"pooling": "mean", "max_length": 16},
    "tasks": [
        {"name": "a", "expert": "a", "test": "a.csv", "calibration": "a.csv", "head": {"support": "a.csv"}},
        {
            "name": "b",
            "expert": "b",
            "test": {"dataset": "d", "split": "test"},
            "calibration": "b",
            "head": {"saved": True},
            "classes": ["x", "y"],
        },
    ],
    "only": ["a"],
    "merges": ["weight_averaging", {"method": "ties", "density": 0.2}, {"method": "feat_cal", "start": "ties"}],
    "calibration": {"mode": "held-out", "samples": 24},
    "surgery": [{"procedure": "closed_form", "rank": 4}, {"procedure": "surgery_v2", "budget": "0.5%"}],
    "seeds": [0, 1],
}
SMALL = {
    "suite": "nlp8",
    "merges": ["ties", {"method": "task_arithmetic", "scale": 0.3}],
    "surgery": {"rank": 4},
    "calibration": {"samples": "10%"},
}
RECIPE_TEXTS = [yaml.safe_dump(SMALL), yaml.safe_dump(SMALL, default_flow_style=True), yaml.safe_dump(RECIPE)]


def mutated_recipe(number: int) -> bytes:
    """Return what a number makes of a recipe: of its letters, its lines, or its tree, which JSON writes as YAML reads it."""
    random = Random(number)
    kind = random.random()
    if kind < 0.4:
        tree = tree_of(json.dumps(random.choice((SMALL, SMALL, RECIPE))))
        for _ in range(random.choice((1, 1, 2))):
            tree = mutate_tree(tree, random) if isinstance(tree, Pairs) else tree
        return text_of(tree, " ").encode(errors="surrogatepass")
    text = random.choice(RECIPE_TEXTS[:2] if kind < 0.9 else RECIPE_TEXTS)
    if kind < 0.7:
        return mutate_bytes(text.encode(), random, YAML_TOKENS)
    lines = text.splitlines(keepends=True)
    place, other = random.randrange(len(lines)), random.randrange(len(lines))
    key, colon, value = lines[place].partition(":")
    lines[place] = random.choice(
        (
            "",
            lines[place] * 2,
            f"{key}: {random.choice(YAML_TOKENS).decode(errors='replace')}\n",
            f"{key}: {random.choice(PATHS)}\n",
            f"{key}: &a {value.strip() or '[1]'}\nname: *a\n",
            f"{random.choice(YAML_TOKENS).decode(errors='replace')}{colon}{value}",
            f"  {lines[place]}",
            lines[other],
        )
    )
    return "".join(lines).encode()


def recipe_read(folder: Path, raw: bytes) -> str:
    file = written(folder, "recipe.yaml", raw)
    try:
        recipe = read_recipe(file)
    except SutureError as error:
        check_message(error, file, len(raw))
        return "refused" if isinstance(error, InvalidRecipe) else repr(error)
    assert recipe.merges, "without a merge"
    again = recipe.model_validate(json.loads(json.dumps(recipe.model_dump(mode="json"))))
    assert again.model_dump(mode="json") == recipe.model_dump(mode="json")
    return "read"


@pytest.mark.fault(2, 20)
def test_mutated_recipes_are_read_or_refused(room: Path) -> None:
    assert recipe_read(room, template_file().read_bytes()) == "read"
    assert {recipe_read(room, text.encode()) for text in RECIPE_TEXTS} == {"read"}
    tally = survey(RECIPES, range(RECIPES.trials), mutated_recipe, partial(recipe_read, room))
    tally.check()
    assert tally.counts.keys() == {"read", "refused"}
    assert min(tally.counts.values()) > tally.total() / 20, tally.counts
