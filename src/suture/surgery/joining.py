"""Operations of some tasks more, or of some less."""

from collections.abc import Sequence

from suture.errors import DataError
from suture.surgery.module import Surgery
from suture.surgery.operations import Operation
from suture.surgery.residual import Residuals
from suture.surgery.residual_surgery import ResidualSurgery


def joined(one: Operation, other: Operation) -> Operation:
    """Return what both do, each for its own tasks.

    Raises :class:`DataError` when they are of different kinds, or share a task.

    >>> from suture.surgery.module import Correction
    >>> one, other = (Surgery({task: Correction.identity(2)}) for task in ("spam", "news"))
    >>> joined(one, other).tasks
    ('spam', 'news')
    """
    if shared := set(one.tasks) & set(other.tasks):
        raise DataError(f"both operations are of {', '.join(sorted(shared))}")
    if isinstance(one, Residuals) and isinstance(other, Residuals):
        return Residuals({**one.changes, **other.changes})
    if isinstance(one, Surgery) and isinstance(other, Surgery) and one.deep == other.deep:
        return Surgery({**one.final, **other.final}, {**one.blocks, **other.blocks})
    if isinstance(one, ResidualSurgery) and isinstance(other, ResidualSurgery):
        residuals, surgery = joined(one.residuals, other.residuals), joined(one.surgery, other.surgery)
        assert isinstance(residuals, Residuals)  # noqa: S101  for the types alone
        assert isinstance(surgery, Surgery)  # noqa: S101
        return ResidualSurgery(residuals, surgery)
    raise DataError(f"{', '.join(other.tasks)}: surgery of another kind than that of {', '.join(one.tasks)}")


def restricted(operation: Operation, tasks: Sequence[str]) -> Operation:
    """Return an operation for some of its tasks, in the order given; raises ``KeyError`` for another task.

    >>> from suture.surgery.module import Correction
    >>> restricted(Surgery({task: Correction.identity(2) for task in ("spam", "news")}), ["news"]).tasks
    ('news',)
    """
    if isinstance(operation, Residuals):
        return Residuals({task: operation.changes[task] for task in tasks})
    if isinstance(operation, Surgery):
        blocks = {task: operation.blocks[task] for task in tasks} if operation.deep else {}
        return Surgery({task: operation.final[task] for task in tasks}, blocks)
    residuals, surgery = restricted(operation.residuals, tasks), restricted(operation.surgery, tasks)
    assert isinstance(residuals, Residuals)  # noqa: S101  for the types alone
    assert isinstance(surgery, Surgery)  # noqa: S101
    return ResidualSurgery(residuals, surgery)
