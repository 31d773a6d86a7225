"""What a detector gets wrong: the numbers of a report on its detections."""

from .measure import measure

__all__ = ["measure"]
