"""Data set report: errors, warnings and statistics."""

from .report import DataReport, check_training_data, report_data

__all__ = ["DataReport", "check_training_data", "report_data"]
