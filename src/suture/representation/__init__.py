"""Floor 2: representations, their bias, their pictures' coordinates."""

from suture.representation.bias import Bias, representation_bias
from suture.representation.extract import encode, encode_cached
from suture.representation.projection import project
from suture.representation.zero_shot import zero_shot_head

__all__ = ["Bias", "encode", "encode_cached", "project", "representation_bias", "zero_shot_head"]
