"""One schedule for any batch size: what a config writes for its batch, scaled to the user's."""

from collections.abc import Collection

from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer

# Counts of iterations, of which a smaller batch needs more to see as many images.
_COUNTS = ("SOLVER.MAX_ITER", "SOLVER.WARMUP_ITERS", "SOLVER.CHECKPOINT_PERIOD", "TEST.EVAL_PERIOD")


def scale_schedule(cfg: CfgNode, given: Collection[str] = ()) -> list[str]:
    """Fit the schedule to ``SOLVER.IMS_PER_BATCH`` by the linear rule.

    The learning rate is multiplied by the batch size over ``SOLVER.REFERENCE_BATCH_SIZE``, counts
    of iterations are divided by it, so that as many images are seen. What the command line gives
    stays: its learning rate, and with its ``SOLVER.MAX_ITER`` all counts.

    Args:
        cfg: not frozen; changed in place. ``SOLVER.REFERENCE_BATCH_SIZE`` becomes the batch size,
            so that a saved configuration is not scaled again.
        given: keys of the command line.

    Returns:
        A note for the log, if anything was changed.

    Source: Accurate, Large Minibatch SGD (arXiv 1706.02677), section 2.1.
    """
    solver = cfg.SOLVER
    reference, batch = solver.REFERENCE_BATCH_SIZE, solver.IMS_PER_BATCH
    if reference == 0 or batch == reference:
        return []
    solver.REFERENCE_BATCH_SIZE = batch
    done = []
    if "SOLVER.BASE_LR" not in given:
        before, solver.BASE_LR = solver.BASE_LR, solver.BASE_LR * batch / reference
        done.append(f"SOLVER.BASE_LR {before:g} -> {solver.BASE_LR:g}")
    if "SOLVER.MAX_ITER" not in given:
        before = solver.MAX_ITER
        _scale_counts(cfg, reference / batch, given)
        done.append(f"SOLVER.MAX_ITER {before} -> {solver.MAX_ITER}, steps {solver.STEPS}")
    if not done:
        return []
    return [
        f"Schedule scaled from batch {reference} to {batch}: {'; '.join(done)} "
        "(SOLVER.REFERENCE_BATCH_SIZE 0 turns this off)."
    ]


def scale_to_processes(cfg: CfgNode, world_size: int) -> tuple[CfgNode, list[str]]:
    """Fit batch and schedule to the processes, as Detectron2 does from ``REFERENCE_WORLD_SIZE``.

    Unlike :func:`scale_schedule`, which is off then, it scales what the command line gives, too.

    Returns:
        The configuration, a new one if it was changed, and a note for the log on that.
    """
    scaled = DefaultTrainer.auto_scale_workers(cfg, world_size)
    if scaled is cfg:
        return cfg, []
    for key in _COUNTS:  # which are rounded, and 0 would be off, or no period
        section, name = key.split(".")
        scaled[section][name] = max(scaled[section][name], min(cfg[section][name], 1))
    before, after = cfg.SOLVER, scaled.SOLVER
    note = f"Schedule scaled from a world size of {before.REFERENCE_WORLD_SIZE} to {world_size}: "
    keys = ("IMS_PER_BATCH", "BASE_LR", "MAX_ITER")
    note += ", ".join(f"SOLVER.{key} {before[key]:.9g} -> {after[key]:.9g}" for key in keys)
    return scaled, [f"{note}, steps {after.STEPS}."]


def _scale_counts(cfg: CfgNode, factor: float, given: Collection[str]) -> None:
    """Multiply every count of iterations that the command line does not give."""
    for key in _COUNTS:
        section, name = key.split(".")
        if key not in given:
            cfg[section][name] = _scaled(cfg[section][name], factor)
    if "SOLVER.STEPS" not in given:
        cfg.SOLVER.STEPS = tuple(_scaled(step, factor) for step in cfg.SOLVER.STEPS)


def _scaled(count: int, factor: float) -> int:
    """At least 1, unless it is 0, which turns a thing off."""
    return max(round(count * factor), 1) if count else 0
