"""What a detector gets wrong: the numbers of a report on its detections, and its page."""

from .compare import compare
from .measure import measure

__all__ = ["compare", "measure"]
