"""What to cite for what was used: of recipes, of folders that Suture wrote, of methods and procedures by name."""

import re
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from suture.bibliography import CLIP, PROTOTYPES, REPAIR, REPRESENTATION_SURGERY, SURGERY_V2, Paper, bibtex_entry
from suture.checkpoints import read_manifest
from suture.errors import DataError, UnknownName
from suture.experiment.procedures import PROCEDURES_BY_NAME
from suture.experiment.recipe import Recipe, recorded_recipe
from suture.experiment.stages import named_recipe
from suture.merging import METHODS, make_method
from suture.multitask import read_description
from suture.multitask.folder import DESCRIPTION
from suture.tasks import SUITES

SOFTWARE = {"author": "{The Suture developers}", "title": "{Suture: many fine-tuned experts of one backbone, one multi-task model}"}


def bibliography(names: Iterable[str] = ()) -> str:
    """Return Suture and the papers behind what is named, as BibTeX; without names, behind Suture itself.

    A name is that of a merging method, a procedure of surgery or an embedded suite, a recipe's file, or a folder that Suture wrote.
    Raises :class:`UnknownName` for another, :class:`DataError` for a folder that does not tell what made it, and what reading a recipe
    raises.

    >>> [line for line in bibliography(["ties"]).splitlines() if line.startswith("@")]
    ['@software{suture,', '@inproceedings{yadav2023ties,']
    """
    papers = [paper for name in names for paper in cited(name)] or [REPRESENTATION_SURGERY, SURGERY_V2]
    software = bibtex_entry("software", "suture", {**SOFTWARE, "version": version("suture"), "license": "Apache-2.0"})
    return "\n\n".join([software, *(paper.bibtex for paper in dict.fromkeys(papers))]) + "\n"


def cited(name: str) -> list[Paper]:
    """Return the papers behind one name; raises what :func:`bibliography` raises.

    >>> [paper.told for paper in cited("dare_ties")]
    ['Yu et al., 2024', 'Yadav et al., 2023']
    """
    if name in METHODS:
        return list(make_method(name).cited)
    if name in PROCEDURES_BY_NAME:
        return list(PROCEDURES_BY_NAME[name].papers)
    place = Path(name)
    if place.is_dir():
        return _of_folder(place)
    if name not in SUITES and not (place.exists() or place.suffix or len(place.parts) > 1):
        raise UnknownName("method, procedure, suite or place", name, [*METHODS, *PROCEDURES_BY_NAME, *SUITES])
    return papers_of(named_recipe(place))


def papers_of(recipe: Recipe) -> list[Paper]:
    """Return the papers behind a recipe: of the bias that every run measures, of its merges, its surgery and its heads."""
    others = {
        PROTOTYPES: recipe.suite is not None or any(task.head.support is not None for task in recipe.tasks),
        CLIP: any(task.head.prompts is not None for task in recipe.tasks),
        REPAIR: recipe.batch_norm == "recalibrate",
    }
    return [
        REPRESENTATION_SURGERY,
        *(paper for method in recipe.merges for paper in method.cited),
        *(paper for procedure in recipe.surgery for paper in procedure.cited),
        *(paper for paper, used in others.items() if used),
    ]


def _of_folder(folder: Path) -> list[Paper]:
    """Return the papers behind a folder, by what its manifest or description tells."""
    manifest = read_manifest(folder)
    if manifest is None:
        raise DataError(f"{folder} was not written by Suture, or is not whole (no manifest of ours in it): name a recipe, or methods")
    if (folder / DESCRIPTION).is_file():
        told: Mapping[str, Any] = {"recipe": read_description(folder).facts.recipe}
    else:
        told = manifest.settings
    if told.get("recipe"):
        return papers_of(recorded_recipe(told["recipe"], f"the recipe that {folder} tells"))
    names = [name for name in re.findall(r"\w+", str(told.get("method", ""))) if name in METHODS]
    names += [name for name in told.get("used", []) if name in METHODS or name in PROCEDURES_BY_NAME]
    if not names:
        raise DataError(f"{folder} does not tell what made it: name a recipe, or methods")
    return [*(paper for name in names for paper in cited(name)), *([REPAIR] if told.get("batch_norm") == "recalibrate" else [])]
