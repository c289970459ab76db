"""Data of the suite vision8."""
