"""Prediction on images and videos from a checkpoint alone."""

from .inputs import UnreadableError
from .options import ViewOptions
from .predictor import Predictor
from .run import predict_files

__all__ = ["Predictor", "UnreadableError", "ViewOptions", "predict_files"]
