"""EfficientNet-Lite0 (Liu, 2020, after Tan & Le, 2019, arXiv 1905.11946), the network of the suite ``vision8``."""

from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from suture.backbones.networks import Network
from suture.errors import UnsupportedFormat

SIDE = 64
"""Images are resized to this many pixels a side: a fraction of ImageNet's 224, and of the time."""


def efficientnet_lite0() -> Network:
    """Return the network of the package ``efficientnet-lite-pytorch``; the mean of its last map, 1,280 wide, represents an image.

    Raises :class:`UnsupportedFormat` when the package is not installed.
    """
    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise UnsupportedFormat(
            "EfficientNet-Lite0 needs the package efficientnet-lite-pytorch, which is not installed: pip install 'suture[vision8]'"
        ) from error
    model = EfficientNet.from_name("efficientnet-lite0", image_size=SIDE)
    return Network(
        model.to(memory_format=torch.channels_last),  # so laid out, its convolutions take two thirds of the time on a processor
        pixels,
        represent=_mean_of_last_map,
        classifier="_fc",
        identity=(f"{SIDE} px, bicubic, -1 to 1", version("efficientnet-lite-pytorch"), version("pillow")),
    )


def pixels(image: Image.Image) -> Tensor:
    """Return an image as the network takes it, shape (3, 64, 64), from −1 to 1.

    >>> pixels(Image.new("RGB", (28, 28), "white")).unique()
    tensor([1.])
    """
    resized = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1).float() / 127.5 - 1


def _mean_of_last_map(model: Any, batch: Tensor) -> Tensor:
    found: Tensor = model.extract_features(batch).mean(dim=(2, 3))
    return found
