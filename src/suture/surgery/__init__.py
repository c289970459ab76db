"""Floor 3: surgery, which takes the representation bias out of a merged backbone."""

from suture.surgery.fit import Schedule, fit_surgery
from suture.surgery.module import Surgery, load_surgery, save_surgery

__all__ = ["Schedule", "Surgery", "fit_surgery", "load_surgery", "save_surgery"]
