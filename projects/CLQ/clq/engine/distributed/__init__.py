"""Processes of a run: launchers, process groups, restarts."""
