"""What a server lets in, and how long it waits."""

from dataclasses import dataclass

from suture.errors import InvalidHyperparameter


@dataclass(frozen=True)
class Limits:
    """Of requests, and of the work behind them. Raises :class:`InvalidHyperparameter` for nonsense.

    >>> Limits(batch=0)
    Traceback (most recent call last):
    suture.errors.InvalidHyperparameter: batch must be at least 1, not 0
    """

    batch: int = 64
    """The most inputs that go through the backbone at once."""
    wait: float = 0.005
    """Seconds that a request waits for others to join it."""
    inputs: int = 256
    """The most inputs of a request."""
    bytes: int = 8_000_000
    """The most that the body of a request holds."""
    characters: int = 100_000
    """The most of a text."""
    pixels: int = 25_000_000
    """The most of an image."""
    aspect: int = 20
    """How many times longer than wide, or wider than long, an image may be: processors that scale the shorter side make it huge."""
    queue: int = 4096
    """The most inputs that wait; beyond them a request is told to come back."""
    held: int = 256_000_000
    """The most bytes of bodies that wait."""
    connections: int = 1024
    """The most clients at once."""
    patience: float = 10.0
    """Seconds that the head of a request, or its body, may take to arrive."""

    def __post_init__(self) -> None:
        for name in ("batch", "inputs", "bytes", "characters", "pixels", "aspect", "queue", "held", "connections"):
            if getattr(self, name) < 1:
                raise InvalidHyperparameter(f"{name} must be at least 1, not {getattr(self, name)}")
        if not (self.wait >= 0 and self.patience > 0):
            raise InvalidHyperparameter("wait must be at least 0 seconds, and patience more than 0")
        if self.inputs > self.queue or self.bytes > self.held:
            raise InvalidHyperparameter("one request may not hold more inputs than wait in all, nor more bytes")
