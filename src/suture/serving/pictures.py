"""Images as clients send them: looked at before they are let in, and opened when it is their turn."""

import base64
from dataclasses import dataclass
from io import BytesIO

from PIL import Image

from suture.errors import DataError
from suture.inputs import StoredPicture
from suture.serving.limits import Limits

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
"""What is opened: other plugins of Pillow run programs, or are little tried."""


@dataclass(frozen=True)
class SentPicture(StoredPicture):
    """An image file in memory."""

    content: bytes
    name: str

    def open(self) -> Image.Image:
        """Return the image; raises ``OSError`` or ``ValueError`` when it is none."""
        return Image.open(BytesIO(self.content), formats=FORMATS)

    def __str__(self) -> str:
        return self.name


def sent_picture(encoded: str, name: str, limits: Limits) -> SentPicture:
    """Return an image from its base64, of which no more than the head has been read.

    Raises :class:`DataError` for what is none of the formats, or larger than the limits.
    """
    try:
        picture = SentPicture(base64.b64decode(encoded, validate=True), name)
        width, height = picture.open().size
    except Exception as error:  # decoders raise what they come upon
        raise DataError(f"{name}: not the base64 of an image that can be read ({', '.join(FORMATS)}): {str(error)[:100]}") from error
    if width * height > limits.pixels or max(width, height) > limits.aspect * min(width, height):
        told = f"at most {limits.pixels} pixels are taken, and sides of at most 1 to {limits.aspect}"
        raise DataError(f"{name}: an image of {width} by {height}; {told}")
    return picture
