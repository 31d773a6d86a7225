"""Facts about the machine of a run."""

import math
import time

import torch

from clq.utils.hardware import cpu_name, cpu_seconds


def test_processor_time_counts_work_and_not_waiting():
    before = cpu_seconds()
    total = sum(math.sqrt(i) for i in range(400_000))
    assert total > 0 and 0.005 < cpu_seconds() - before < 60
    before = cpu_seconds()
    time.sleep(0.3)
    assert cpu_seconds() - before < 0.2


def test_the_name_has_the_threads():
    name, _, threads = cpu_name().rpartition(", ")
    assert name and threads == f"{torch.get_num_threads()} threads"
