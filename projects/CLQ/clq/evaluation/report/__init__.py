"""The report of a run: what a detector gets wrong, on one page."""
