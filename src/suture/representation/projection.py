"""Two-dimensional pictures of representations by t-SNE (van der Maaten and Hinton, 2008)."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


def project(groups: Sequence[Float[Tensor, "_ k"]], seed: int) -> list[Float[Tensor, "_ 2"]]:
    """Place several sets of representations in one plane, so that distances between the sets mean something.

    Raises ``ValueError`` when there are fewer than two points.

    >>> [tuple(part.shape) for part in project([torch.eye(6), torch.eye(6)[:4]], seed=0)]
    [(6, 2), (4, 2)]
    """
    from sklearn.manifold import TSNE

    points = np.concatenate([group.numpy() for group in groups])
    perplexity = min(30.0, (len(points) - 1) / 3)
    plane = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(points)
    return list(torch.from_numpy(plane).split([len(group) for group in groups]))
