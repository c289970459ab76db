"""Networks of timm and open_clip need torchvision; where its kernels are for another build of torch, the two that it asks for are declared.

These tests run in a process of their own, as transformers behaves otherwise once torchvision is there.
"""

import sys
from importlib.util import find_spec

import torch

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
KEPT = []

if find_spec("torchvision"):
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        KEPT.append(torch.library.Library("torchvision", "DEF"))  # what is declared lasts as long as its library
        for schema in SCHEMAS:
            KEPT[0].define(schema)
