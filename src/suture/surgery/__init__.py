"""Floor 3: surgery, which takes the representation bias out of a merged backbone."""

from suture.surgery.files import Origin, load_surgery, read_origin, save_surgery
from suture.surgery.fit import fit_surgery
from suture.surgery.module import Correction, Surgery
from suture.surgery.schedule import Schedule

__all__ = ["Correction", "Origin", "Schedule", "Surgery", "fit_surgery", "load_surgery", "read_origin", "save_surgery"]
