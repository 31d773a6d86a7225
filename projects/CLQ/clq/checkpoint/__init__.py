"""Weights in and out; importing registers the ``clq://`` addresses."""

from .checkpointer import CompleteCheckpointer
from .path_handler import register_path_handler

__all__ = ["CompleteCheckpointer", "register_path_handler"]

register_path_handler()
