"""Floor 7: the papers' tables and figures, and those that their readers ask for next, on any suite."""
