"""Inference from an exported file, by NumPy, Pillow and the runtime of its format alone.

What needs neither PyTorch nor Detectron2 lies here, and :mod:`clq.prediction` shares it.
"""

from .detector import Detector, load
from .result import Result

__all__ = ["Detector", "Result", "load"]
