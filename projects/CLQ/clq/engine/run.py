"""Train or evaluate in this process, from the options of a run."""

from collections import OrderedDict

from ..checkpoint import CompleteCheckpointer, check_finite
from ..modeling import fast_inference_model
from .final_report import write_final_report
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
        model = CLQTrainer.build_model(cfg).eval()
        CompleteCheckpointer(model, trusted=cfg.MODEL.TRUST_WEIGHTS).load(cfg.MODEL.WEIGHTS)
        check_finite(model, cfg.MODEL.WEIGHTS)
        if cfg.MODEL.FAST_INFERENCE:
            model = fast_inference_model(model)
        results = CLQTrainer.test(cfg, model)
        write_final_report(cfg, cfg.MODEL.WEIGHTS, trained=False)
        return results
    finally:
        unlock_folders()
