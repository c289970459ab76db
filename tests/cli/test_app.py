"""The command line, as a subprocess."""

import csv
import json
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from unittest.mock import ANY

import pytest
import torch
import typer
import yaml
from safetensors.torch import load_file, save_file

from suture import __version__ as suture_version
from suture.checkpoints import Manifest, staged_folder
from suture.cli import main
from suture.errors import SutureWarning
from suture.experiment import template_file


def suture(*arguments: object, fails: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, "-m", "suture", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == fails, done.stderr
    assert "Traceback" not in done.stderr
    return done


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Run a command that must fail in this process, and return its exit code and what it said."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["suture", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
    said = capsys.readouterr()
    assert not said.out
    return int(stopped.value.code or 0), said.err


def change(recipe: Path, **entries: object) -> Path:
    content = yaml.safe_load(recipe.read_text())
    recipe.write_text(yaml.safe_dump(content | entries))
    return recipe


def test_a_recipe_of_ones_own_runs_to_its_tables(recipe_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = suture("run", recipe_file, "-o", out)
    for shown in ("pretrained", "individual", "+ surgery", "task_arithmetic(scale=0.3)", "weight_averaging", "average", "bias"):
        assert shown in " ".join(done.stdout.split())
    with (out / "results.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["suite", "merge", "surgery", "rank", "calibration", "samples", "seed", "task", "metric", "value"]
    assert {row["suite"] for row in rows} == {"tiny"}
    operated = [row for row in rows if row["surgery"] == "surgery"]
    assert {(row["rank"], row["calibration"], row["samples"]) for row in operated} == {("4", "held-out", "24")}
    assert {row["seed"] for row in operated} == {"0", "1"}
    assert {row["metric"] for row in operated} == {"accuracy", "bias_l1", "bias_mean_abs", "parameters"}
    manifest = json.loads((out / "manifest.json").read_text())
    written = {file.relative_to(out).as_posix() for file in out.rglob("*") if file.is_file()} - {"manifest.json"}
    assert set(manifest["files"]) == written
    assert {"heads.safetensors", "results.json", "table.md", "figures/bias.png", "figures/tsne.svg"} <= written
    assert {"report.json", "report.html", "figures/tsne.pdf"} <= written
    assert {"surgery/weight_averaging-seed1.safetensors", "merged/task_arithmetic/model.safetensors"} <= written


@pytest.mark.fault(30)
def test_the_same_recipe_gives_the_same_bytes(recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", "1")
    suture("run", recipe_file, "-o", tmp_path / "a")
    content = yaml.safe_load(recipe_file.read_text())
    content["tasks"] = [dict(reversed(task.items())) for task in content["tasks"]]
    recipe_file.write_text(yaml.safe_dump(dict(reversed(content.items())), sort_keys=False))
    monkeypatch.setenv("PYTHONHASHSEED", "2")
    monkeypatch.setenv("SUTURE_CACHE", str(tmp_path / "cache"))  # nothing of the first is known
    suture("run", recipe_file, "-o", tmp_path / "b")
    first, second = (json.loads((tmp_path / name / "manifest.json").read_text())["files"] for name in "ab")
    nested = {name for name in first if name.endswith("manifest.json")}
    assert {name: digest for name, digest in first.items() if name not in nested} == {
        name: digest for name, digest in second.items() if name not in nested
    }


def test_stages_one_by_one(recipe_file: Path, bert: Path, experts: dict[str, Path], tmp_path: Path) -> None:
    merged, surgery = tmp_path / "merged", tmp_path / "surgery.safetensors"
    suture("merge", "task_arithmetic", "--base", bert, "--out", merged, "--set", "scale=0.4", *experts.values())
    base, expert = load_file(bert / "model.safetensors"), [load_file(path / "model.safetensors") for path in experts.values()]
    for name, tensor in load_file(merged / "model.safetensors").items():
        torch.testing.assert_close(tensor, base[name] + 0.4 * sum(e[name] - base[name] for e in expert))
    assert "numbers" in suture("bias", recipe_file, "--merged", merged).stdout
    suture("operate", recipe_file, "--merged", merged, "-o", surgery)
    assert set(load_file(surgery)) == {f"{task}.{side}" for task in experts for side in ("down", "up")}
    shown = suture("evaluate", recipe_file, "--merged", merged, "--surgery", surgery).stdout
    assert "+ surgery" in shown
    assert "pretrained" in shown
    assert suture("operate", recipe_file, "--merged", merged, "-o", surgery, fails=5).stderr.count("exists already") == 1
    suture("operate", recipe_file, "--merged", merged, "-o", surgery, "--replace", "--budget", "20%")
    size = sum(tensor.numel() for tensor in base.values())
    assert len(load_file(surgery)["pets.down"]) == int(0.2 * size) // (2 * 16)
    assert "--budget: 'budget'" in suture("operate", recipe_file, "-o", tmp_path / "other", "--budget", "much", fails=2).stderr


@pytest.mark.fault(13)
def test_mixed_precisions_need_a_dtype(
    bert: Path, experts: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    half = tmp_path / "half.safetensors"
    tensors = load_file(experts["pets"] / "model.safetensors")
    save_file({name: tensor.bfloat16() for name, tensor in tensors.items()}, half)
    arguments = ["merge", "weight_averaging", "--base", bert, "--out", tmp_path / "out", experts["numbers"], half]
    code, said = refused(capsys, *arguments)
    assert code == 3
    assert "give an output dtype" in " ".join(said.split())
    monkeypatch.setattr(sys, "argv", ["suture", *map(str, arguments), "--dtype", "bfloat16"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code
    assert {tensor.dtype for tensor in load_file(tmp_path / "out" / "model.safetensors").values()} == {torch.bfloat16}


def test_a_merge_by_several_jobs_is_the_same(bert: Path, experts: dict[str, Path], tmp_path: Path) -> None:
    arguments = ["merge", "ties", "--base", bert, *experts.values()]
    suture(*arguments, "-o", tmp_path / "one")
    done = suture(*arguments, "-o", tmp_path / "two", "--jobs", 2)
    assert "2 of 2: Merging: ties, shard 1 of 1" in done.stderr
    files = [{file.name: file.read_bytes() for file in (tmp_path / name).iterdir()} for name in ("one", "two")]
    assert files[0] == files[1]
    assert "add --engine ray" in suture(*arguments, "-o", tmp_path / "no", "--address", "here:1", fails=2).stderr
    assert "--jobs is for" in suture(*arguments, "-o", tmp_path / "no", "--engine", "ray", "--jobs", 2, fails=2).stderr


def test_a_method_that_learns_merges_from_a_recipe(recipe_file: Path, bert: Path, experts: dict[str, Path], tmp_path: Path) -> None:
    settings = ["--set", "steps=2", "--set", "batch_size=4", "--set", "seed=1"]
    done = suture("merge", "ada_merging", "--recipe", recipe_file, "-o", tmp_path / "out", *settings)
    assert "Estimating: ada_merging" in done.stderr
    told = json.loads((tmp_path / "out" / "manifest.json").read_text())["settings"]["method"]
    learnt_from = json.loads((tmp_path / "out" / "manifest.json").read_text())["settings"]["calibration"]
    assert (learnt_from["mode"], learnt_from["samples"], learnt_from["seed"]) == ("held-out", 24, 1)
    assert set(learnt_from["sha256"]) == set(experts)
    assert told == "ada_merging(scope=layer, initial=0.3, steps=2, batch_size=4, learning_rate=0.001, seed=1)"
    out = ["-o", tmp_path / "other"]
    bare = suture("merge", "ada_merging", "--base", bert, *experts.values(), *out, fails=2)
    assert "learns from unlabelled inputs" in bare.stderr
    assert "--recipe" in bare.stderr
    both = suture("merge", "ada_merging", "--recipe", recipe_file, "--base", bert, *out, fails=2)
    assert "names base and experts itself" in both.stderr
    assert "give --base and at least one expert" in suture("merge", "ties", *out, fails=2).stderr
    assert not (tmp_path / "other").exists()


def test_methods_lists_hyperparameters_and_papers() -> None:
    shown = suture("methods").stdout
    for word in ("weight_averaging", "task_arithmetic", "scale=0.3", "ties", "density=0.2", "2306.01708"):
        assert word in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "No such command 'nonsense'; `suture -h` says what there is"),
        (["merge"], "Missing argument 'METHOD'; `suture merge -h` says what there is"),
        (["operate-features", "--rank", "0"], "`suture operate-features -h` says what there is"),
        (["demo", "--nonsense"], "`suture demo -h` says what there is"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_told_as_other_errors_are(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    code, said = refused(capsys, *arguments)
    assert code == 2
    assert said.startswith("error: ")
    assert said.endswith(f"{message}\n")
    assert said.count("\n") == 1


def test_the_version_needs_no_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["suture", "--version"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code
    assert capsys.readouterr().out == f"{suture_version}\n"


def test_a_question_that_is_answered_with_no_stops(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("suture.checkpoints.check_output", failing(typer.Abort()))
    code, said = refused(capsys, "paper", "rank")
    assert (code, said) == (1, "nothing done: stopped, as you wished\n")


def test_what_to_cite_is_printed_as_it_is(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["suture", "cite", "tsv_m"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code
    said = capsys.readouterr().out
    assert said.startswith("@software{suture,")
    assert "  title = {{Task Singular Vectors: Reducing Task Interference in Model Merging}}," in said.splitlines()
    assert "Rodolà, Emanuele}," in said
    assert refused(capsys, "cite", "tsv") == (2, ANY)


def test_a_page_is_made_of_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(capsys, "report", tmp_path)[0] == 4
    from suture.report.exhibits import Report

    made = Report(title="T", summary="S", notes=[], exhibits=[], recipe="", provenance={})
    (tmp_path / "report.json").write_text(made.model_dump_json())
    monkeypatch.setattr(sys, "argv", ["suture", "report", str(tmp_path)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code
    assert "report.html" in capsys.readouterr().out.replace("\n", "")
    assert (tmp_path / "report.html").is_file()
    (tmp_path / "report.json").write_text("{}")
    code, said = refused(capsys, "report", tmp_path)
    assert (code, said.count("\n")) == (4, 1)
    assert "is not a report" in said


def test_the_template_can_be_printed() -> None:
    assert suture("recipe").stdout == template_file().read_text(encoding="utf-8")
    assert "`suture recipe` prints one" in " ".join(suture("run", "--help").stdout.replace("│", " ").split())


@pytest.mark.fault(4)
def test_names_with_markup_do_not_break_tables(recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = yaml.safe_load(recipe_file.read_text())
    content["tasks"][0]["name"] = "[/x]"
    recipe_file.write_text(yaml.safe_dump(content))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["suture", "bias", str(recipe_file)])
        with pytest.raises(SystemExit) as stopped:
            main()
    assert not stopped.value.code
    assert "[/x]" in capsys.readouterr().out


def failing(error: BaseException) -> Callable[..., object]:
    def fail(*_: object, **__: object) -> object:
        raise error

    return fail


@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_unexpected_error_is_one_line_and_a_traceback_when_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], place: int
) -> None:
    monkeypatch.setattr("suture.experiment.read_recipe", failing(RuntimeError("it\nbroke [/x]")))
    code, said = refused(capsys, "bias", "r.yaml")
    assert code == 70
    assert said == "internal error: RuntimeError: it broke [/x]; run again with --debug and report it\n"
    command = ["bias", "r.yaml"]
    command.insert(place, "--debug")
    code, said = refused(capsys, *command)
    assert code == 70
    assert "Traceback" in said
    assert said.endswith("internal error: RuntimeError: it broke [/x]; report it\n")


def test_our_errors_keep_their_code_with_debug(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = refused(capsys, "bias", tmp_path / "absent.yaml", "--debug")
    assert code == 2
    assert "Traceback" in said
    assert "error: " in said.splitlines()[-1]


@pytest.mark.fault(29)
def test_an_interrupt_is_quiet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("suture.experiment.read_recipe", failing(KeyboardInterrupt()))
    assert refused(capsys, "bias", "r.yaml") == (130, "")
    monkeypatch.setattr("suture.cli.entry.app", failing(KeyboardInterrupt()))
    assert refused(capsys, "bias", "r.yaml") == (130, "")


STOPPING = """
import sys, time
from pathlib import Path
from suture.checkpoints import Manifest, staged_folder
import suture.experiment
def read_recipe(file, **_):
    with staged_folder(Path(sys.argv[-1]), Manifest(), replace=True) as stage:
        (stage / "half").write_text("half")
        print("ready", flush=True)
        time.sleep(60)
suture.experiment.read_recipe = read_recipe
from suture.cli import main
main()
"""


@pytest.mark.fault(29)
@pytest.mark.parametrize(("told", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_who_is_told_to_stop_leaves_nothing_half_done(tmp_path: Path, told: signal.Signals, code: int) -> None:
    with staged_folder(tmp_path / "out", Manifest()) as stage:
        (stage / "old").write_text("old")
    arguments = [sys.executable, "-c", STOPPING, "run", "recipe.yaml", "-o", str(tmp_path / "out")]
    # A shell's background jobs ignore Ctrl-C, those of nohup SIGHUP, and so would what they start.
    before = {signal.SIGINT: signal.getsignal(signal.SIGINT), signal.SIGHUP: signal.getsignal(signal.SIGHUP)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(told)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (code, "")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["manifest.json", "old"]


@pytest.mark.fault(26)
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no device that is full")
def test_a_full_standard_output_is_told_in_one_line() -> None:
    arguments = [sys.executable, "-c", "from suture.cli import main; main()", "cite", "ties"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(arguments, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (5, "error: cannot write to standard output: No space left on device\n")


@pytest.mark.fault(29)
def test_what_nohup_ignores_stays_ignored(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen = list[object]()
    monkeypatch.setattr("suture.cli.entry.app", lambda **_: seen.append(signal.getsignal(signal.SIGHUP)))
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert refused(capsys, "methods") == (0, "")
        assert (seen, signal.getsignal(signal.SIGHUP)) == ([signal.SIG_IGN], signal.SIG_IGN)
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.fault(10)
def test_verify_names_what_has_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    with staged_folder(out, Manifest()) as stage:
        (stage / "[b]file").write_text("whole")
    (out / "notes").write_text("mine")
    monkeypatch.setattr(sys, "argv", ["suture", "verify", str(out)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code
    assert capsys.readouterr().out == f"{out}: 2 files as written; unverified, as nothing tells how they were written: notes\n"
    monkeypatch.setattr(sys, "argv", ["suture", "verify", str(out), "--strict"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 3
    assert f"error: unverified, at least in part: {out}; --strict takes only what has a digest" in capsys.readouterr().err
    (out / "[b]file").write_text("Whole")
    monkeypatch.setattr(sys, "argv", ["suture", "verify", str(out)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 3
    assert f"error: {out / '[b]file'} is not as it was written: its sha256 is " in capsys.readouterr().err
    (out / "[b]file").write_text("whole")
    monkeypatch.setattr(sys, "argv", ["suture", "verify", str(tmp_path / "nowhere"), str(out)])
    with pytest.raises(SystemExit) as stopped:
        main()
    said = capsys.readouterr()
    assert (stopped.value.code, "nowhere: no such file or folder" in said.err) == (3, True)
    assert f"{out}: 2 files as written" in said.out
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr(sys, "argv", ["suture", "verify", str(tmp_path / "empty"), "--strict"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert (stopped.value.code, "unverified, at least in part" in capsys.readouterr().err) == (3, True)


@pytest.mark.fault(24)
def test_strict_refuses_to_evaluate_what_was_learnt_from(recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(recipe_file, calibration={"mode": "transductive"})
    for command in (
        ["run", recipe_file, "-o", tmp_path / "out"],
        ["build", recipe_file, "-o", tmp_path / "out"],
        ["operate", recipe_file, "-o", tmp_path / "out"],
        ["merge", "ada_merging", "--recipe", recipe_file, "-o", tmp_path / "out"],
        ["evaluate", recipe_file],
        ["bias", recipe_file],
    ):
        code, said = refused(capsys, *command, "--strict")
        assert code == 2
        assert "'calibration.mode' is transductive, so what is learnt from is what is evaluated, which --strict refuses; set it" in said
    assert not (tmp_path / "out").exists()


def test_warnings_of_ours_are_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def warn(**_: object) -> None:
        warnings.simplefilter("always")
        warnings.warn("left out:\n[/x]", SutureWarning, stacklevel=1)
        warnings.warn("theirs", UserWarning, stacklevel=1)

    before = warnings.showwarning
    monkeypatch.setattr("suture.cli.entry.app", warn)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", ["suture"])
        with pytest.raises(SystemExit) as stopped:
            main()
    said = capsys.readouterr().err
    assert said.splitlines()[0] == "warning: left out: [/x]"
    assert "UserWarning: theirs" in said
    assert not stopped.value.code
    assert warnings.showwarning is before


def test_help_loads_nothing_heavy() -> None:
    code = "import sys; sys.argv = ['suture', '--help']; from suture.cli import main\ntry: main()\nexcept SystemExit: pass\n"
    code += "heavy = {'torch', 'transformers', 'numpy', 'pydantic', 'sklearn', 'matplotlib'} & set(sys.modules); assert not heavy, heavy"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_demo_recipe_can_be_printed() -> None:
    assert yaml.safe_load(suture("demo", "--show-recipe").stdout)["suite"] == "nlp8"


@pytest.mark.fault(20)
@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"base": "nowhere"}, 3, "nowhere: no such file or folder"),
        ({"merges": ["task_arithmetics"]}, 2, "'merges.0': "),
        ({"merges": ["task_arithmetics"]}, 2, "did you mean 'task_arithmetic'"),
        ({"merges": [{"method": "ties", "density": 2}]}, 2, "density must be in (0, 1]"),
        ({"merges": [{"method": "ties", "densty": 0.2}]}, 2, "did you mean 'density'"),
        ({"surgry": {}}, 2, "unknown key 'surgry'; did you mean 'surgery'"),
        ({"surgery": {"rnk": 3}}, 2, "unknown key 'surgery.0.rnk'; did you mean 'rank'"),
        ({"calibration": {"samples": 41}}, 4, "has 40 samples to calibrate on, but the recipe asks for 41"),
        ({"seeds": []}, 2, "'seeds'"),
        ({"suite": "nlp8"}, 2, "either 'suite', or 'base' and 'tasks'"),
    ],
)
def test_a_wrong_recipe_gets_one_clear_line(
    recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, object], code: int, message: str
) -> None:
    found, said = refused(capsys, "run", change(recipe_file, **changes), "-o", tmp_path / "out")
    assert found == code
    assert message in said
    assert [line for line in said.splitlines() if "error" in line] == [said.splitlines()[-1]]
    assert not (tmp_path / "out").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.fault(11, 12, 14)
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda tensors: tensors.pop("encoder.layer.0.output.dense.weight"), "missing tensor 'encoder.layer.0.output.dense.weight'"),
        (lambda tensors: tensors.update(extra=torch.ones(1)), "extra tensor 'extra'"),
        (
            lambda tensors: tensors.update({"pooler.dense.bias": torch.ones(3)}),
            "'pooler.dense.bias': expected [16] float32, found [3] float32",
        ),
        (
            lambda tensors: tensors["pooler.dense.bias"].__setitem__(2, torch.nan),
            "'pooler.dense.bias' holds 1 NaN or Inf, the first at index (2,)",
        ),
    ],
)
def test_an_expert_that_does_not_fit_is_refused(bert: Path, experts: dict[str, Path], tmp_path: Path, spoil: object, message: str) -> None:
    file = experts["pets"] / "model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}
    spoil(tensors)  # type: ignore[operator]
    save_file(tensors, file)
    done = suture("merge", "weight_averaging", "--base", bert, "--out", tmp_path / "out", *experts.values(), fails=3)
    assert message in " ".join(done.stderr.split())
    assert not (tmp_path / "out").exists()


def test_outputs_are_not_overwritten(bert: Path, experts: dict[str, Path], tmp_path: Path) -> None:
    arguments = ["merge", "weight_averaging", "--base", bert, "--out", tmp_path / "out", *experts.values()]
    suture(*arguments)
    assert "exists already" in suture(*arguments, fails=5).stderr
    suture(*arguments, "--replace")
    (tmp_path / "out" / "manifest.json").unlink()
    assert "was not written by Suture" in suture(*arguments, "--replace", fails=5).stderr


@pytest.mark.fault(20)
def test_options_that_make_no_sense(bert: Path, experts: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--base", bert, "--out", tmp_path / "out", *experts.values()]
    for command, message in (
        (["merge", "tie", *arguments], "did you mean 'ties'"),
        (["merge", "ties", "--set", "density", *arguments], "--set takes NAME=VALUE"),
        (["merge", "ties", "--set", "density=much", *arguments], "density must be a float"),
        (["merge", "ties", "--set", "density=0.1", "--set", "density=0.2", *arguments], "--set gives density twice: 0.1 and 0.2"),
        (["demo", "nlp9", "--show-recipe"], "unknown suite 'nlp9'; did you mean 'nlp8'"),
    ):
        code, said = refused(capsys, *command)
        assert code == 2
        assert message in " ".join(said.split())
