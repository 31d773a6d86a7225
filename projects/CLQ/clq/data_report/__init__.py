"""What a data set holds, and what is wrong with it."""

from .report import DataReport, check_training_data, report_data

__all__ = ["DataReport", "check_training_data", "report_data"]
