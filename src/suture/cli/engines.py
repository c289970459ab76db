"""The options that say where steps run."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from suture.errors import UsageError

if TYPE_CHECKING:
    from suture.engine import Engine

Jobs = Annotated[int, typer.Option("--jobs", "-j", min=1, help="How many processes work at a time, each on its share of the cores.")]
EngineName = Annotated[Literal["local", "ray"], typer.Option("--engine", help="This machine, or the nodes of a Ray cluster.")]
Address = Annotated[
    str | None, typer.Option("--address", metavar="HOST:PORT", help="The Ray cluster; without it that of RAY_ADDRESS, or one started here.")
]


def chosen_engine(name: str, jobs: int, address: str | None) -> "Engine | None":
    """Return the engine that the options name; None where all is done in this process.

    Raises :class:`UsageError` for options that do not go together.
    """
    if name == "ray":
        if jobs != 1:
            raise UsageError("--jobs is for --engine local: a cluster runs as many steps at a time as its nodes have room for")
        from suture.engine import RayEngine

        return RayEngine(address)
    if address is not None:
        raise UsageError("--address is that of a Ray cluster: add --engine ray")
    if jobs == 1:
        return None
    from suture.engine import LocalEngine

    return LocalEngine(jobs)
