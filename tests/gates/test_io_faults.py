"""Every call to the system fails once, of every operation that writes: nothing that stood there is lost, and nothing is left about."""

import errno
from pathlib import Path

import pytest

from gates.figures import Figure
from gates.interposing import Call, calls_of, failing, interposed
from gates.operations import Operation, converting, fitting, merging, shipping
from gates.warm import warm_reader
from suture.checkpoints import verify
from suture.errors import OutputError, SutureError

FIGURE = Figure("the k-th I/O call fails", suite=0, soak=0)
COMMITS = {"exchange", "rename", "replace"}


@pytest.mark.fault(26)
def test_nothing_is_lost_when_a_call_fails(tmp_path: Path, bert: Path) -> None:
    with FIGURE.told() as tally, warm_reader():
        operations = [merging(tmp_path), fitting(tmp_path), shipping(tmp_path, bert), converting(tmp_path)]
        for operation in operations:
            operation.stand(0)
            calls = calls_of(lambda operation=operation: operation.write(1))
            assert any(call.name in COMMITS for call in calls)
            for call in calls:
                for code in (errno.ENOSPC, errno.EIO):
                    outcome, faults = fail(operation, call, code, calls)
                    tally.counts[outcome] += 1
                    tally.faults += [f"{operation.name}, {call} fails with {errno.errorcode[code]}: {fault}" for fault in faults]
    tally.check()


def fail(operation: Operation, call: Call, code: int, calls: list[Call]) -> tuple[str, list[str]]:
    """Let one call fail; return what came of it, and what should not have."""
    operation.stand(0)
    try:
        with interposed(failing(call.place, code)):
            operation.write(1)
        outcome = "written all the same"
    except OutputError:
        outcome = "refused"
    except SutureError as error:
        outcome = "refused" if call.name == "read" else repr(error)
    except BaseException as error:
        outcome = repr(error)
    faults = [] if outcome in {"refused", "written all the same"} else [f"raises {outcome}"]
    if call.clears:  # what cannot be cleared away stays, and is all that may be there too much
        return outcome, faults + verify(operation.out).faults
    try:
        standing = operation.standing()
    except AssertionError as error:
        return outcome, [*faults, str(error)]
    late = any(each.name in COMMITS and each.file == str(operation.out) for each in calls[: call.place])
    if standing != 1 and (outcome == "written all the same" or standing != 0):
        faults.append(f"version {standing} stands there")
    if standing == 1 and outcome == "refused" and not late:
        faults.append("what was refused stands there")
    if operation.beside():
        faults.append(f"left: {operation.beside()}")
    return outcome, faults
