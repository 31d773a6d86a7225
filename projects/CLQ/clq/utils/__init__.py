"""Atomic file writes, downloads out of wheels, facts about the hardware."""
