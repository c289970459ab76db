"""Random views of a batch of images, for training on a thousand of them."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample


@dataclass(frozen=True)
class Views:
    """How far images are turned (in degrees), shifted (as a share of half a side), scaled and recoloured at random.

    With ``mirrored`` half of them are; ``mixed`` is the share of images blended with another of the batch.

    >>> Views()(torch.zeros(2, 3, 8, 8), torch.Generator().manual_seed(0)).shape
    torch.Size([2, 3, 8, 8])
    """

    turn: float = 20
    shift: float = 0.15
    smallest: float = 0.7
    largest: float = 1.2
    colour: float = 0.3
    mirrored: bool = True
    mixed: float = 0.0

    def __call__(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Return a view of each image, values from −1 to 1, shape (n, 3, side, side)."""
        count = len(pixels)

        def drawn(low: float, high: float, *shape: int) -> Tensor:
            return low + (high - low) * torch.rand(count, *shape, generator=generator)

        turn = math.radians(self.turn)
        angle, scale = drawn(-turn, turn), drawn(self.smallest, self.largest)
        flip = torch.where(drawn(0, 1) < 0.5 * self.mirrored, -1.0, 1.0)
        rows = [torch.stack([scale * flip * angle.cos(), -scale * angle.sin(), drawn(-self.shift, self.shift)], dim=1)]
        rows.append(torch.stack([scale * flip * angle.sin(), scale * angle.cos(), drawn(-self.shift, self.shift)], dim=1))
        grid = affine_grid(torch.stack(rows, dim=1), list(pixels.shape), align_corners=False)
        moved = grid_sample(pixels, grid, padding_mode="border", align_corners=False)
        contrast, brightness = drawn(1 - self.colour, 1 + self.colour, 3, 1, 1), drawn(-self.colour, self.colour, 1, 1, 1)
        coloured = (moved * contrast + brightness).clamp(-1, 1)
        share = torch.where(drawn(0, 1, 1, 1, 1) < self.mixed, drawn(0, 1, 1, 1, 1), 1.0)
        return share * coloured + (1 - share) * coloured[torch.randperm(count, generator=generator)]
