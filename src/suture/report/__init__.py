"""Floor 4: tables and figures."""
