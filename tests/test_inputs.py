"""Images as networks take them."""

import numpy as np
import pytest
from PIL import Image

from suture.errors import DataError
from suture.inputs import StoredPicture, opened_image


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (np.zeros((2, 3)), r"not float64 \(2, 3\)"),
        (np.zeros((2, 3, 4), dtype=np.uint8), r"not uint8 \(2, 3, 4\)"),
        (np.zeros(3, dtype=np.uint8), r"not uint8 \(3,\)"),
    ],
)
def test_arrays_that_are_no_images_are_refused(array: np.ndarray, told: str) -> None:
    with pytest.raises(DataError, match=rf"an image is an array of uint8, \(height, width\) or \(height, width, 3\), {told}"):
        opened_image(array)


class Refusing(StoredPicture):
    """An image whose place says itself what is wrong."""

    def open(self) -> Image.Image:
        raise DataError("the archive is locked")

    def __str__(self) -> str:
        return "an archive"


def test_errors_of_ours_come_out_as_they_are() -> None:
    with pytest.raises(DataError, match=r"^the archive is locked$"):
        opened_image(Refusing())
