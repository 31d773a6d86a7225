"""The report at the end of a run."""

import logging
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.utils import comm

from ..utils.unprintable import escape_unprintable

logger = logging.getLogger(__name__)

# What may go wrong with a report without an end to the run; tests let the rest through.
TOLERATED: tuple[type[Exception], ...] = (Exception,)


def write_final_report(cfg: CfgNode, weights: str | Path, *, trained: bool) -> None:
    """Write ``OUTPUT_DIR/report`` if ``TEST.REPORT`` asks for it, on rank 0.

    A report that fails leaves a warning: the weights and metrics of the run are there already.

    Args:
        cfg: of the run, which has just evaluated its test sets.
        weights: that were evaluated.
        trained: the run was a training.
    """
    if not cfg.TEST.REPORT or not cfg.DATASETS.TEST or not comm.is_main_process():
        return
    # With matplotlib and Jinja, which nothing else in a run needs.
    from ..evaluation.report.run_report import report_run

    output = Path(cfg.OUTPUT_DIR)
    metrics_file = output / "metrics.json" if trained else None
    try:
        pages = report_run(cfg, weights, output / "report", metrics_file=metrics_file)
    except TOLERATED as error:
        reason = escape_unprintable(f"{type(error).__name__}: {error}")
        logger.warning("There is no report on the run (%s); all else was written.", reason)
    else:
        for page in pages:
            logger.info("What the detector gets wrong: %s", page)
