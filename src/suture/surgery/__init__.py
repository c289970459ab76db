"""Floor 3: surgery, which takes the representation bias out of a merged backbone."""

from suture.surgery.files import Origin, load_surgery, read_origin, save_surgery
from suture.surgery.fit import fit_surgery
from suture.surgery.module import Correction, Surgery
from suture.surgery.residual import Residuals, low_rank_residuals
from suture.surgery.residual_files import load_residuals, save_residuals
from suture.surgery.residual_fit import calibrated_residuals
from suture.surgery.schedule import Schedule

__all__ = [
    "Correction",
    "Origin",
    "Residuals",
    "Schedule",
    "Surgery",
    "calibrated_residuals",
    "fit_surgery",
    "load_residuals",
    "load_surgery",
    "low_rank_residuals",
    "read_origin",
    "save_residuals",
    "save_surgery",
]
