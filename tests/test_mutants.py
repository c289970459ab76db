"""Mutation testing: what is made of the results, and that what is called equivalent is still there."""

import tomllib
from pathlib import Path

import pytest

from docs.pages import script

SCRIPTS = Path(__file__).parents[1] / "scripts"
DIFF = """--- src/suture/merging/ties.py
+++ src/suture/merging/ties.py
@@ -1,3 +1,3 @@
 def f(a, b):
-    for x in zip(a, b, strict=True):
+    for x in zip(a, b, {}):
         pass
"""


MUTANTS = script("mutants")


def test_names_and_lines() -> None:
    assert MUTANTS.function_of("suture.merging.ties.x__trim__mutmut_12") == "merging.ties._trim"
    assert MUTANTS.function_of("suture.surgery.fit.xǁ_Fitǁ__init____mutmut_3") == "surgery.fit._Fit.__init__"
    assert MUTANTS.changed(DIFF) == ("for x in zip(a, b, strict=True):", "for x in zip(a, b, {}):")


def test_only_what_is_known_and_guards_are_equivalent() -> None:
    name = "suture.merging.ties.x_f__mutmut_1"
    for gone in ("strict=None", "strict=False", ""):
        assert MUTANTS.reasons({name: DIFF.format(gone)}) == {name: MUTANTS.SAME_LENGTH}
    assert MUTANTS.reasons({name: DIFF.replace("b, {}", "a, strict=True")}) == {}
    first = tomllib.loads(MUTANTS.EQUIVALENT.read_text(encoding="utf-8"))["mutant"][0]
    mutant = f"suture.{first['function'].rpartition('.')[0]}.x_{first['function'].rpartition('.')[2]}__mutmut_1"
    assert MUTANTS.reasons({mutant: f"-{first['was']}\n+{first['is']}"}) == {mutant: first["reason"]}


def test_what_is_called_equivalent_is_still_in_the_source() -> None:
    for each in tomllib.loads(MUTANTS.EQUIVALENT.read_text(encoding="utf-8"))["mutant"]:
        package, module, *_ = each["function"].split(".")
        source = SCRIPTS.parent / "src" / "suture" / package / f"{module}.py"
        assert each["was"] in " ".join(line.strip() for line in source.read_text(encoding="utf-8").splitlines())


def test_what_became_of_mutants() -> None:
    codes = {1: "killed", 3: "killed", 0: "survived", 33: "survived", 36: "timed out", -24: "timed out", -11: "killed", -6: "killed"}
    assert {code: MUTANTS.kind("m", code) for code in codes} == codes
    for code in (None, 2, 4):
        with pytest.raises(SystemExit, match="m was not run to its end"):
            MUTANTS.kind("m", code)


def test_the_table_counts_and_tells_intervals_where_there_is_enough() -> None:
    codes = {"merging/a.py": dict.fromkeys(map(str, range(200)), 1), "surgery/b.py": {"x": 0, "y": None}, "surgery/c.py": {}}
    kinds = {str(place): "killed" for place in range(90)} | {str(place): "survived" for place in range(90, 100)} | {"x": "timed out"}
    both, merging, surgery, *modules = MUTANTS.table(codes, kinds, ["95", "96"])[2:]
    assert merging == "| merging | 200 | 100 | 90 | 0 | 10 | 2 | 90.0 (82.6 to 94.5) | 91.8 (84.7 to 95.8) |"
    assert surgery == "| surgery | 2 | 1 | 0 | 1 | 0 | 0 | 100.0 | 100.0 |"
    assert both.startswith("| both | 202 | 101 | 90 | 1 | 10 | 2 | 90.1 ")
    assert [line.split("|")[1].strip() for line in modules] == ["merging/a.py", "surgery/b.py"]
