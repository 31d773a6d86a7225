"""The schedule of a config, fitted to the user's batch."""

import pytest

from clq.config import get_clq_cfg
from clq.engine.run_config.scale_schedule import scale_schedule, scale_to_processes
from reference.tiny import ROOT


def config(batch: int, **solver):
    cfg = get_clq_cfg()
    cfg.merge_from_file(str(ROOT / "configs/COCO-Detection/clq_R_50_FPN_1x.yaml"))
    cfg.SOLVER.IMS_PER_BATCH = batch
    for key, value in solver.items():
        cfg.SOLVER[key] = value
    return cfg


def schedule(cfg) -> tuple:
    solver = cfg.SOLVER
    return solver.BASE_LR, solver.MAX_ITER, solver.STEPS, solver.WARMUP_ITERS


def test_more_processes_leave_no_period_at_zero():
    cfg = config(4, REFERENCE_WORLD_SIZE=1, REFERENCE_BATCH_SIZE=0, CHECKPOINT_PERIOD=4)
    scaled, (note,) = scale_to_processes(cfg, 16)
    assert schedule(scaled) == (0.16, 5625, (3750, 5000), 31)
    assert (scaled.SOLVER.CHECKPOINT_PERIOD, scaled.TEST.EVAL_PERIOD) == (1, 0)
    assert note.startswith("Schedule scaled from a world size of 1 to 16: ")
    assert scale_to_processes(scaled, 16) == (scaled, [])


def test_half_the_batch_trains_twice_as_long_at_half_the_rate():
    cfg = config(8)
    (message,) = scale_schedule(cfg)
    assert schedule(cfg) == (0.005, 180000, (120000, 160000), 1000)
    assert cfg.SOLVER.CHECKPOINT_PERIOD == 10000 and cfg.TEST.EVAL_PERIOD == 0
    assert message and "from batch 16 to 8" in message and "\n" not in message
    assert "0.01 -> 0.005" in message and "90000 -> 180000" in message


def test_a_larger_batch_trains_shorter():
    cfg = config(64)
    scale_schedule(cfg)
    assert schedule(cfg) == (0.04, 22500, (15000, 20000), 125)


@pytest.mark.parametrize("batch, reference", ((16, 16), (4, 0)))
def test_nothing_is_done_for_the_reference_batch_or_when_off(batch, reference):
    cfg = config(batch, REFERENCE_BATCH_SIZE=reference)
    before = cfg.dump()
    assert scale_schedule(cfg) == [] and cfg.dump() == before


def test_a_scaled_schedule_is_not_scaled_again():
    cfg = config(4)
    scale_schedule(cfg)
    before = cfg.dump()
    assert scale_schedule(cfg) == [] and cfg.dump() == before


def test_what_the_command_line_gives_stays():
    cfg = config(8, BASE_LR=0.02)
    (message,) = scale_schedule(cfg, given=["SOLVER.IMS_PER_BATCH", "SOLVER.BASE_LR"])
    assert schedule(cfg) == (0.02, 180000, (120000, 160000), 1000) and "BASE_LR" not in message
    cfg = config(8, MAX_ITER=20)
    (message,) = scale_schedule(cfg, given=["SOLVER.MAX_ITER"])
    assert schedule(cfg) == (0.005, 20, (60000, 80000), 500) and "MAX_ITER" not in message
    cfg = config(8, STEPS=(7,))
    scale_schedule(cfg, given=["SOLVER.STEPS"])
    assert schedule(cfg) == (0.005, 180000, (7,), 1000)


def test_a_count_does_not_vanish():
    cfg = config(1600, WARMUP_ITERS=3)
    scale_schedule(cfg)
    assert cfg.SOLVER.WARMUP_ITERS == 1 and cfg.SOLVER.MAX_ITER == 900
