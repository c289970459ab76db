"""Floor 5: tables and figures."""
