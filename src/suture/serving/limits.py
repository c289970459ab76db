"""What a server lets in, and how long it waits."""

from dataclasses import dataclass

from suture.errors import InvalidHyperparameter


@dataclass(frozen=True)
class Limits:
    """Of requests, and of the work behind them. Raises :class:`InvalidHyperparameter` for nonsense."""

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
    queue: int = 4096
    """The most inputs that wait; beyond them a request is told to come back."""
    patience: float = 10.0
    """Seconds that a body may take to arrive."""

    def __post_init__(self) -> None:
        for name in ("batch", "inputs", "bytes", "characters", "queue"):
            if getattr(self, name) < 1:
                raise InvalidHyperparameter(f"{name} must be at least 1, not {getattr(self, name)}")
        if not (self.wait >= 0 and self.patience > 0):
            raise InvalidHyperparameter("wait must be at least 0 seconds, and patience more than 0")
