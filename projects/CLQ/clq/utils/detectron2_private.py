"""Access to private names of Detectron2 that have no public counterpart, in v0.6 and main.

Besides these, CLQTrainer sets ``DefaultTrainer._trainer``, and TrainingStep reads
``SimpleTrainer._data_loader_iter``, as subclasses do.
"""

from typing import Any

import numpy as np
from detectron2.engine import SimpleTrainer
from detectron2.utils import comm
from detectron2.utils.events import EventStorage


def data_iterator(trainer: SimpleTrainer) -> Any:
    """Return the iterator over the data loader from which a trainer takes its batches."""
    return trainer._data_loader_iter


def stored_images(storage: EventStorage) -> list[tuple[str, np.ndarray, int]]:
    """Return the images (C, H, W) that no writer has taken yet, with name and iteration."""
    return storage._vis_data


def set_local_process_group(group: Any) -> None:
    """Set the processes on this node; ``create_local_process_group`` demands equal nodes."""
    comm._LOCAL_PROCESS_GROUP = group
