"""Learning coefficients: time and memory of one step of layer-wise AdaMerging beside one plain forward and backward pass.

    python benchmarks/adaptive.py FOLDER --out docs/results/benchmark-adaptive.md     # makes checkpoints of BERT-base's shape there (4 GB)

The plain pass runs the same texts in the same batches through the same network, with the gradient of every weight. Memory is what the
process grows by from before it opens anything.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

import torch

from checkpoints import VOCABULARY, make
from measuring import peak_memory, printed_apart, quietness, report, seconds, verdict
from suture.backbones import Head, TaskCalibration, TextBackbone
from suture.checkpoints import open_checkpoint
from suture.merging import AdaMerging, make_method, merge_to_folder
from suture.merging.calibration import entropy_backward
from suture.merging.merged_copy import MergedCopy, drawn_rows
from suture.merging.streaming import Sources, Streamed

EXPERTS, BATCH, WORDS, CLASSES, REPEATS, STEPS = 8, 16, 24, 10, 5, 3
TIME_LIMIT = 1.5
"""What a step may take, as a multiple of the plain pass; memory may be T + 3 models."""


def text_folder(folder: Path, base: Path) -> Path:
    """Make a Hugging Face folder of the base: configuration and a tokenizer of as many words as the base has embeddings."""
    from transformers import BertConfig, BertTokenizerFast

    out = folder / "bert"
    out.mkdir(exist_ok=True)
    BertConfig(vocab_size=VOCABULARY).save_pretrained(out)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [*special, *(f"w{number}" for number in range(VOCABULARY - len(special)))]
    BertTokenizerFast(vocab={word: place for place, word in enumerate(words)}).save_pretrained(out)
    if not (out / "model.safetensors").exists():
        (out / "model.safetensors").hardlink_to(base)
    return out


def calibration(folder: Path) -> TaskCalibration:
    """Return random texts of 8 to 40 words for each task, and random heads."""
    generator, backbone = torch.Generator().manual_seed(0), TextBackbone.open(folder, max_length=64)
    texts, heads = {}, {}
    for task in range(EXPERTS):
        lengths = torch.randint(8, 2 * WORDS - 8, (4 * BATCH,), generator=generator).tolist()
        numbers = [torch.randint(0, VOCABULARY - 5, (length,), generator=generator).tolist() for length in lengths]
        texts[f"task{task}"] = [" ".join(f"w{number}" for number in own) for own in numbers]
        heads[f"task{task}"] = Head(torch.randn(CLASSES, 768, generator=generator))
    return TaskCalibration(backbone, texts, heads)


def times(folder: Path, base: Path, experts: list[Path]) -> tuple[float, float]:
    """Return the median seconds of a step and of a plain pass, taken in turns."""
    inputs = calibration(folder)
    survey = Streamed(Sources(open_checkpoint(base), [open_checkpoint(expert) for expert in experts]))
    copy = MergedCopy.of(survey, inputs, lambda block: block.task_vectors, folder)
    rows, coefficients = drawn_rows(inputs, BATCH, 0), torch.full((len(copy.names), len(experts)), 0.3)
    found: dict[str, list[float]] = {"step": [], "plain": []}
    for number in range(REPEATS + 1):
        chosen = next(rows)

        def step(chosen: list[list[int]] = chosen) -> None:
            copy.merge(coefficients)
            copy.backward(chosen)
            copy.coefficient_gradient()

        def plain(chosen: list[list[int]] = chosen) -> None:
            for weight in copy.weights.values():
                weight.grad = None
            entropy_backward(inputs, copy.weights, chosen)

        for name, work in (("step", step), ("plain", plain)):
            spent = seconds(work)
            if number:  # the first of each warms up
                found[name].append(spent)
    return statistics.median(found["step"]), statistics.median(found["plain"])


def whole_merge(folder: Path, base: Path, experts: list[Path]) -> None:
    """Merge with a few steps of AdaMerging, and print the memory it took, in bytes."""
    inputs = calibration(folder)
    method = make_method("ada_merging", {"steps": STEPS})
    assert isinstance(method, AdaMerging)
    with tempfile.TemporaryDirectory(dir=folder) as scratch, peak_memory() as most:
        merge_to_folder(
            method, open_checkpoint(base), [open_checkpoint(expert) for expert in experts], Path(scratch) / "out", calibration=inputs
        )
    print(most[0])


def main() -> None:
    """Print the table, and write it where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--memory-only", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    base, experts = make(options.folder, EXPERTS)
    folder = text_folder(options.folder, base)
    if options.memory_only:
        whole_merge(folder, base, experts)
        return
    peak = printed_apart(__file__, str(options.folder), "--memory-only")
    step, plain = times(folder, base, experts)
    models = peak / base.stat().st_size
    lines = [
        "# A step of layer-wise AdaMerging",
        "",
        f"{EXPERTS} experts of BERT-base's shape, float32; {BATCH} texts of 8 to 40 words from each of {EXPERTS} tasks; medians of",
        f"{REPEATS}. {quietness()}",
        "",
        "| | measured | at most | |",
        "|---|---:|---:|---|",
        f"| step ÷ forward and backward pass of the same texts | {step / plain:.2f} | {TIME_LIMIT} | {verdict(step / plain, TIME_LIMIT)} |",
        f"| peak anonymous memory of the whole merge, in models | {models:.1f} | {EXPERTS + 3} | {verdict(models, EXPERTS + 3)} |",
        "",
        f"The pass took {plain:.1f} s on this machine, this time.",
        "",
        "Made by `python benchmarks/adaptive.py FOLDER --out docs/results/benchmark-adaptive.md`.",
    ]
    report(lines, options.out)


if __name__ == "__main__":
    main()
