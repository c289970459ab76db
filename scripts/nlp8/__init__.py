"""Data and experiments of the suite nlp8."""
