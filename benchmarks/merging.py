"""Merging: time beside averages that stream by hand and beside mere reading and writing, and memory; float32 and bfloat16.

    python benchmarks/merging.py FOLDER                                  # makes the checkpoints there (7 GB) and prints the tables
    python benchmarks/merging.py FOLDER --out docs/results/benchmark-merging.md

Every time is a median, measured in one run, in turns, without imports, inputs in the page cache. Ours includes flushing the output to
the disk and its digest; the others' output is only written.
"""

import argparse
import os
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch_file

from checkpoints import make
from measuring import Work, in_turns, memory_limit, merge, merge_apart, quietness, report, table, verdict

LIMITS = {"weight_averaging": 1.5, "task_arithmetic": 1.5, "ties": 8.0, "dare_ties": 6.0}
"""What each method's time may be, as a multiple of the NumPy streaming average's."""

NUMPY, TORCH, COPY = "NumPy average", "torch average", "reading and writing"
CHUNK = 1 << 22
"""Bytes read at a time where nothing is computed."""

ABOUT = """Every input lies in the page cache. *NumPy average*: every expert's tensor, one after another, is added to a float32 sum, which
is divided and written, on one processor; NumPy knows no bfloat16, so there each tensor is widened by a shift of its 16 bits and the mean
rounded to nearest even by hand. *torch average*: the same in torch, on all processors. *reading and writing*: all of the base and the
experts is read, and the base's bytes are written as the output; nothing is computed. These three only write; Suture's time includes
flushing the output to the disk and its digest. The targets are multiples of the NumPy average."""


def numpy_average(base: Path, experts: list[Path], out: Path) -> None:
    """Average tensor by tensor as one would by hand, and write the result."""
    handles = [safe_open(expert, "np") for expert in experts]
    merged = {}
    for name in safe_open(base, "np").keys():  # noqa: SIM118
        total = handles[0].get_tensor(name).copy()
        for handle in handles[1:]:
            total += handle.get_tensor(name)
        merged[name] = np.divide(total, len(experts), out=total)
    save_file(merged, out)


def numpy_average_bfloat16(base: Path, experts: list[Path], out: Path) -> None:
    """Do the same for bfloat16, whose bits are the upper half of a float32's."""
    handles = [safe_open(expert, "pt") for expert in experts]
    merged = {}
    for name in safe_open(base, "pt").keys():  # noqa: SIM118
        bits = np.empty(handles[0].get_slice(name).get_shape(), np.uint32)
        total = np.zeros(bits.shape, np.float32)
        for handle in handles:
            np.left_shift(handle.get_tensor(name).view(torch.uint16).numpy(), 16, out=bits, dtype=np.uint32)
            total += bits.view(np.float32)
        merged[name] = torch.from_numpy(_rounded(np.divide(total, len(experts), out=total), bits)).view(torch.bfloat16)
    save_torch_file(merged, out)


def _rounded(values: NDArray[np.float32], room: NDArray[np.uint32]) -> NDArray[np.uint16]:
    """Return the upper halves of finite float32 values, rounded to nearest even; ``values`` are spent."""
    bits = values.view(np.uint32)
    np.right_shift(bits, 16, out=room)
    room &= np.uint32(1)
    room += np.uint32(0x7FFF)
    bits += room
    bits >>= np.uint32(16)
    return bits.astype(np.uint16)


def torch_average(base: Path, experts: list[Path], out: Path) -> None:
    """Average tensor by tensor in float32 with torch, and write the result in the experts' dtype."""
    handles = [safe_open(expert, "pt") for expert in experts]
    merged = {}
    for name in safe_open(base, "pt").keys():  # noqa: SIM118
        first = handles[0].get_tensor(name)
        total = first.to(torch.float32, copy=True)
        for handle in handles[1:]:
            # Adding bfloat16 to float32 as it is takes thrice as long.
            total += handle.get_tensor(name).to(torch.float32)
        merged[name] = (total / len(experts)).to(first.dtype)
    save_torch_file(merged, out)


def copy(base: Path, experts: list[Path], out: Path) -> None:
    """Read every input and write the base's bytes: what no merge can be faster than."""
    room = memoryview(bytearray(CHUNK))
    with out.open("wb") as target:
        for file in (base, *experts):
            with file.open("rb", buffering=0) as source:
                while count := source.readinto(room):
                    if file is base:
                        target.write(room[:count])


def time_table(base: Path, experts: list[Path], scratch: Path, dtype: str, repeats: int) -> list[str]:
    """Compare the methods with the bounds."""
    average = numpy_average if dtype == "float32" else numpy_average_bfloat16
    bounds = {NUMPY: average, TORCH: torch_average, COPY: copy}
    works: dict[str, Work] = {name: partial(bound, base, experts, scratch / "bound.safetensors") for name, bound in bounds.items()}
    works |= {method: partial(merge, method, base, experts, scratch / "merged") for method in LIMITS}
    times = in_turns(works, repeats)
    rows = []
    for name, spent in times.items():
        ratio = spent / times[NUMPY]
        limit = (f"{LIMITS[name]:g}", verdict(ratio, LIMITS[name])) if name in LIMITS else ("", "")
        rows.append((name, f"{spent:.2f}", f"{ratio:.2f}", *limit, f"{spent / times[TORCH]:.2f}", f"{spent / times[COPY]:.2f}"))
    return table((dtype, "s", "÷ NumPy average", "at most", "", "÷ torch average", "÷ reading and writing"), rows)


def memory_table(base: Path, experts: list[Path], scratch: Path, dtype: str) -> list[str]:
    """Measure the memory of whole merges."""
    rows = []
    for method in LIMITS:
        for count in (2, len(experts)):
            peak, limit = merge_apart(method, base, experts[:count], scratch / "merged")[1], memory_limit(base, count)
            rows.append((method, str(count), str(peak), f"{limit:.0f}", verdict(peak, limit)))
    return table((dtype, "experts", "peak anonymous MB", "at most", ""), rows)


def main() -> None:
    """Print the tables, and write them where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--experts", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], action="append", help="only this one; both by default")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    scratch = options.folder / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    shape = f"Base and {options.experts} experts of BERT-base's shape (109 M), {os.cpu_count()} cores, medians of {options.repeats}."
    times, memory = [], []
    for dtype in options.dtype or ["float32", "bfloat16"]:
        base, experts = make(options.folder / dtype, options.experts, dtype=getattr(torch, dtype))
        times += time_table(base, experts, scratch, dtype, options.repeats)
        memory += memory_table(base, experts, scratch, dtype)
    made = "Made by `python benchmarks/merging.py FOLDER --out docs/results/benchmark-merging.md`."
    report(["# Merging speed and memory", "", shape, ABOUT, "", *times, quietness(), "", "## Memory", "", *memory, made], options.out)


if __name__ == "__main__":
    main()
