"""Event writer for Weights & Biases, an optional package."""

import secrets
from collections import defaultdict
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.utils.events import EventWriter, get_event_storage

from ...checkpoint.output_dir import list_checkpoints
from ...utils.atomic_write import write_atomically
from ...utils.detectron2_private import stored_images

_ID_FILE = "wandb_id"


def check_wandb() -> None:
    """Check that Weights & Biases is installed.

    Raises:
        ValueError: it is not; with the command that installs it.
    """
    try:
        from wandb import init  # noqa: F401  # a folder of runs is called wandb, too
    except ImportError:
        raise ValueError(
            "WANDB.ENABLED is True, but Weights & Biases is not installed: run `pip install wandb`."
        ) from None


class WandbWriter(EventWriter):
    """Writes scalars and images to Weights & Biases, as ``TensorboardXWriter`` does.

    A resumed training continues its run at the first iteration that the run does not have. It
    must come before ``TensorboardXWriter``, which clears the images.
    """

    def __init__(self, cfg: CfgNode, window_size: int = 20) -> None:
        """
        Args:
            cfg: reads ``OUTPUT_DIR`` and ``WANDB``, and is shown with the run.
            window_size: number of values over which a noisy scalar is smoothed, by their median.

        Raises:
            ValueError: Weights & Biases can't be used, as without an account.
        """
        import wandb

        self._to_image = wandb.Image
        folder = Path(cfg.OUTPUT_DIR)
        self._window_size = window_size
        try:
            self._run = wandb.init(
                project=cfg.WANDB.PROJECT,
                name=cfg.WANDB.NAME or None,
                dir=str(folder),
                config=cfg,
                id=_run_id(folder),
                resume="allow",
            )
        except wandb.Error as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise ValueError(
                f"Weights & Biases can't be used ({reason}); run `wandb login`, or set the "
                "environment variable WANDB_MODE to offline."
            ) from error
        self._last_write = self._run.step - 1

    def write(self) -> None:
        storage = get_event_storage()
        by_iteration: dict[int, dict[str, Any]] = defaultdict(dict)
        scalars = storage.latest_with_smoothing_hint(self._window_size)
        for name, (value, iteration) in scalars.items():
            by_iteration[iteration][name] = value
        for name, image, iteration in stored_images(storage):
            by_iteration[iteration][name] = self._to_image(image.transpose(1, 2, 0))
        for iteration, content in sorted(by_iteration.items()):
            if iteration > self._last_write:
                self._run.log(content, step=iteration)
                self._last_write = iteration

    def close(self) -> None:
        self._run.finish()


def _run_id(folder: Path) -> str:
    """Return the id of the run to continue, or a new one."""
    file = folder / _ID_FILE
    if file.is_file() and list_checkpoints(folder):
        return file.read_text().strip()
    run_id = secrets.token_hex(4)
    write_atomically(file, run_id.encode())
    return run_id
