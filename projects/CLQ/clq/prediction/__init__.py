"""Prediction on images and videos from a checkpoint alone."""

from ..runtime.inputs import UnreadableError
from ..runtime.options import ViewOptions
from .predictor import Predictor
from .run import predict_files

__all__ = ["Predictor", "UnreadableError", "ViewOptions", "predict_files"]
