"""A report on what a detector gets wrong: the numbers of its detections, and the page."""

from .compare import compare
from .measure import measure

__all__ = ["compare", "measure"]
