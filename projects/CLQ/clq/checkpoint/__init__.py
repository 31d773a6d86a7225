"""Weights in and out; importing registers the ``clq://`` addresses."""

from .checkpointer import CLQCheckpointer, CompleteCheckpointer
from .path_handler import register_path_handler

__all__ = ["CLQCheckpointer", "CompleteCheckpointer", "register_path_handler"]

register_path_handler()
