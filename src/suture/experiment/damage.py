"""Calibration inputs that are not as clean as what the experts were trained on: texts with slips of typing, images with noise."""

import string
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from suture.inputs import Input, Picture, StoredPicture, identity_of, opened_image
from suture.randomness import generator_for

LETTERS = string.ascii_lowercase


def damaged(inputs: Sequence[Input], share: float, seed: int) -> list[Input]:
    """Return the inputs with a share of each spoilt, at least one place: characters of a text, pixels of an image.

    What becomes of an input depends on its content, the share and the seed, not on those beside it; it always differs from what it
    was, and so do their identities. Images are spoilt when they are looked at.

    >>> damaged(["a quick brown fox"], 0.2, seed=0) == damaged(["a quick brown fox", "jumps"], 0.2, seed=0)[:1]
    True
    """
    return [damaged_text(each, share, seed) if isinstance(each, str) else DamagedPicture(each, share, seed) for each in inputs]


def damaged_text(text: str, share: float, seed: int) -> str:
    """Return a text in which so many of the characters are another letter, left out, or have changed places with the next.

    The first character is never left out, so there is always some text.

    >>> len(damaged_text("colour", 1.0, seed=0)) <= 6
    True
    """
    generator = generator_for(seed, text, "damage")
    places = torch.randperm(len(text), generator=generator)[: _count(share, len(text))].tolist()
    kinds, letters = torch.randint(3, (len(text),), generator=generator), torch.randint(len(LETTERS) - 1, (len(text),), generator=generator)
    found, spoilt = list(text), set(places)
    for place in places:
        after = place + 1
        if kinds[place] == 0 and place > 0:
            found[place] = ""
        # Neighbours that are spoilt themselves are left to that; like ones would change nothing.
        elif kinds[place] == 1 and after < len(text) and after not in spoilt and text[after] != text[place]:
            found[place], found[after] = text[after], text[place]
        else:
            found[place] = LETTERS.replace(text[place], "")[int(letters[place])]
    return "".join(found)


@dataclass(frozen=True, eq=False)
class DamagedPicture(StoredPicture):
    """An image of which a share of the pixels is noise: each value of those is any other than it was, as likely as any."""

    whole: Picture
    share: float
    seed: int

    def open(self) -> Image.Image:
        """Return the image, noise and all; raises :class:`suture.errors.DataError` when there is none."""
        pixels = np.array(opened_image(self.whole))
        generator = generator_for(self.seed, identity_of(self.whole), "damage")
        flat = pixels.reshape(-1, pixels.shape[-1])
        places = torch.randperm(len(flat), generator=generator)[: _count(self.share, len(flat))].numpy()
        # In uint8 what goes beyond 255 comes in again at 0.
        flat[places] += torch.randint(1, 256, (len(places), flat.shape[1]), generator=generator).numpy().astype(np.uint8)
        return Image.fromarray(pixels)

    def __str__(self) -> str:
        whole = self.whole
        return f"{'an image' if isinstance(whole, Image.Image | np.ndarray) else whole}, damaged"


def _count(share: float, among: int) -> int:
    return min(among, max(1, round(share * among)))
