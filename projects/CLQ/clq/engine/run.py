"""Train or evaluate in this process, from the options of a run."""

from collections import OrderedDict

from detectron2.config import CfgNode
from torch import nn

from ..checkpoint import CompleteCheckpointer, check_finite
from ..modeling import fast_inference_model
from ..runtime.exported import is_exported
from .final_report import write_final_report
from .full_images import open_exported
from .run_config.folder_lock import unlock_folders
from .run_config.options import RunOptions
from .run_config.setup import setup
from .trainer import CLQTrainer


def run_in_process(options: RunOptions) -> OrderedDict:
    """Train and evaluate, or only evaluate, as one of the processes of a run.

    Args:
        options: of the run.

    Returns:
        Metrics of the final weights in percent, in the form of ``DefaultTrainer.test``; empty
        without an evaluation.

    Raises:
        FloatingPointError: a loss is not finite.
        OSError: a file can't be read or written.
        ValueError: see :func:`clq.engine.setup`.
    """
    try:
        cfg = setup(options)
        if not options.eval_only:
            trainer = CLQTrainer(cfg)
            trainer.resume_or_load(resume=options.resume)
            trainer.train()
            return trainer.last_results
        results = CLQTrainer.test(cfg, _evaluated_model(cfg))
        write_final_report(cfg, cfg.MODEL.WEIGHTS, trained=False)
        return results
    finally:
        unlock_folders()


def _evaluated_model(cfg: CfgNode) -> nn.Module:
    """Load what ``MODEL.WEIGHTS`` holds, for an evaluation alone."""
    if is_exported(cfg.MODEL.WEIGHTS):
        return open_exported(cfg)
    model = CLQTrainer.build_model(cfg).eval()
    CompleteCheckpointer(model, trusted=cfg.MODEL.TRUST_WEIGHTS).load(cfg.MODEL.WEIGHTS)
    check_finite(model, cfg.MODEL.WEIGHTS)
    return fast_inference_model(model) if cfg.MODEL.FAST_INFERENCE else model
