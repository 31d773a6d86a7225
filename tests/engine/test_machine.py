"""What is noted about the machine of a run."""

import torch

from clq.engine.machine import cpu_name, cpu_seconds


def test_processor_time_grows_with_work():
    before = cpu_seconds()
    while cpu_seconds() < before + 0.05:
        torch.ones(100, 100) @ torch.ones(100, 100)
    assert cpu_seconds() > before


def test_the_name_has_the_threads():
    name, _, threads = cpu_name().rpartition(", ")
    assert name and threads == f"{torch.get_num_threads()} threads"
