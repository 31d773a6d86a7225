"""The machine that a run was made on, and the processor time that it took."""

import os
import platform
import re
from pathlib import Path

import torch
from torch.multiprocessing import ProcessRaisedException

_OUT_OF_MEMORY = re.compile(
    r"allocate memory|not enough memory|^MemoryError|out of memory|Insufficient memory", re.I | re.M
)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether Python, NumPy, PyTorch or OpenCV lacked memory, of the machine or the GPU."""
    if isinstance(error, MemoryError):
        return True
    # Of another process there is only the text of its traceback.
    is_of_library = isinstance(error, (RuntimeError, ProcessRaisedException))
    is_of_library |= type(error).__module__ == "cv2"
    return is_of_library and bool(_OUT_OF_MEMORY.search(str(error)))


def cpu_seconds() -> float:
    """Processor time of this process and its finished children."""
    return sum(os.times()[:4])


def cpu_name() -> str:
    """The processor's name as far as the system tells it, with the number of threads used."""
    names = [platform.processor() or platform.machine()]
    if os.path.exists("/proc/cpuinfo"):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{(names or [platform.machine()])[0]}, {torch.get_num_threads()} threads"
