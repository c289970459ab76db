"""Floor 2: the engine. It runs graphs of steps whose results are files, named by digests of all that they depend on.

What was done is not done again, whoever did it: runs that were cut short go on, and runs that share work share its results.
"""

from suture.engine.graph import Engine, Summary, run_steps
from suture.engine.local import LocalEngine
from suture.engine.ray_engine import RayEngine
from suture.engine.step import Resources, Step

__all__ = ["Engine", "LocalEngine", "RayEngine", "Resources", "Step", "Summary", "run_steps"]
