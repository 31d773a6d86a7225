"""Training and evaluation, in one process or several: ``clq train``, ``clq eval``, train_net.py."""

import os
from collections.abc import Sequence

from ..engine import RunOptions, build_config, clq_argument_parser, exit_on_user_error, launch
from ..engine.distributed.cluster_env import detect_launcher, is_local_rank_zero
from ..engine.distributed.launch import run_in_process_group
from ..engine.run import run_in_process
from ..engine.run_config.setup import find_device
from ..engine.user_errors import defer_peer_errors

EPILOG = r"""
train on COCO    PROG --config clq_R_50_FPN_1x
your own data    ... --train train.json images/ --val val.json images/
  YOLO, VOC      ... --train data.yaml --val data.yaml
several GPUs     ... --num-gpus 8
    or           torchrun --standalone --nproc-per-node 8 train_net.py ...
    or           srun --ntasks-per-node 8 python train_net.py ...
resume           ... --resume
change a key     ... SOLVER.IMS_PER_BATCH 8 SOLVER.BASE_LR 0.005
evaluate         EVAL --weights output/model_final.safetensors --val val.json images/
"""


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> None:
    """Start the processes that the command line asks for, or join those of torchrun or srun.

    Args:
        argv: arguments; None takes those of this process.
        prog: ``clq train``, ``clq eval``, or None for train_net.py.
    """
    program, evaluates = (prog or "python train_net.py"), prog == "clq eval"
    evaluation = "clq eval" if prog else f"{program} --eval-only"
    epilog = EPILOG.replace("PROG", program).replace("EVAL", evaluation)
    options = clq_argument_parser(epilog, prog=prog).parse_args(argv, RunOptions())
    options.eval_only |= evaluates
    with (
        exit_on_user_error(debug=options.debug),
        defer_peer_errors(is_first=is_local_rank_zero(os.environ)),
    ):
        options.place = detect_launcher(
            os.environ, num_gpus=options.num_gpus, num_machines=options.num_machines
        )
        if options.place is not None:
            on_cuda = find_device(options).startswith("cuda")
            run_in_process_group(run_in_process, options.place, on_cuda=on_cuda, args=(options,))
            return
        on_cuda = False
        if options.world_size > 1:
            # Rejects what can't run before there are processes.
            on_cuda = build_config(options).MODEL.DEVICE.startswith("cuda")
        launch(
            run_in_process,
            options.num_gpus,
            num_machines=options.num_machines,
            machine_rank=options.machine_rank,
            dist_url=options.dist_url,
            on_cuda=on_cuda,
            args=(options,),
        )
