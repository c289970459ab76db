"""Floor 7: the papers' tables and figures, and those that their readers ask for next, on any suite."""

from suture.paper.clip8 import clip8_base, clip8_recipe
from suture.paper.items import chosen
from suture.paper.run import Written, write_paper
from suture.paper.settings import settings_for
from suture.paper.study import Study, study_of

__all__ = ["Study", "Written", "chosen", "clip8_base", "clip8_recipe", "settings_for", "study_of", "write_paper"]
