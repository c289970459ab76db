"""Floor 3: surgery, which takes the representation bias out of a merged backbone."""

from suture.surgery.closed_form import ClosedForm, fit_closed_form
from suture.surgery.deep import fit_deep_closed_form
from suture.surgery.deep_fit import fit_deep_surgery
from suture.surgery.features import Features, gathered, load_features, save_features
from suture.surgery.files import Origin, load_surgery, read_origin, save_surgery
from suture.surgery.fit import fit_surgery
from suture.surgery.joining import joined, restricted
from suture.surgery.module import Correction, Surgery
from suture.surgery.online import OnlineSurgery
from suture.surgery.operations import Operation, load_operation, network_after, parts_of, represent, save_operation
from suture.surgery.prequential import Prequential, prequential_closed_form, prequential_surgery
from suture.surgery.residual import Residuals, low_rank_residuals
from suture.surgery.residual_files import load_residuals, save_residuals
from suture.surgery.residual_fit import calibrated_residuals
from suture.surgery.residual_surgery import ResidualSurgery, fit_residual_surgery
from suture.surgery.schedule import Schedule

__all__ = [
    "ClosedForm",
    "Correction",
    "Features",
    "OnlineSurgery",
    "Operation",
    "Origin",
    "Prequential",
    "ResidualSurgery",
    "Residuals",
    "Schedule",
    "Surgery",
    "calibrated_residuals",
    "fit_closed_form",
    "fit_deep_closed_form",
    "fit_deep_surgery",
    "fit_residual_surgery",
    "fit_surgery",
    "gathered",
    "joined",
    "load_features",
    "load_operation",
    "load_residuals",
    "load_surgery",
    "low_rank_residuals",
    "network_after",
    "parts_of",
    "prequential_closed_form",
    "prequential_surgery",
    "read_origin",
    "represent",
    "restricted",
    "save_features",
    "save_operation",
    "save_residuals",
    "save_surgery",
]
