#!/usr/bin/env python
r"""Train and evaluate CLQ.

train on COCO    python train_net.py --config-file configs/COCO-Detection/clq_R_50_FPN_1x.yaml
your own data    ... --train train.json images/ --val val.json images/
several GPUs     ... --num-gpus 8
    or           torchrun --standalone --nproc-per-node 8 train_net.py ...
    or           srun --ntasks-per-node 8 python train_net.py ...
go on            ... --resume
evaluate         ... --eval-only MODEL.WEIGHTS output/clq_R_50_FPN_1x/model_final.pth
that alone       python train_net.py --eval-only --val val.json images/ \
                     MODEL.WEIGHTS output/model_final.safetensors
change a key     ... SOLVER.IMS_PER_BATCH 8 SOLVER.BASE_LR 0.005
"""

import argparse
import os
from collections import OrderedDict

from clq.checkpoint import CompleteCheckpointer
from clq.engine import (
    CLQTrainer,
    build_config,
    clq_argument_parser,
    defer_peer_errors,
    detect_launcher,
    device_of,
    exit_on_user_error,
    is_local_rank_zero,
    launch,
    run_in_process_group,
    setup,
)
from clq.modeling import fast_inference_model


def main(args: argparse.Namespace) -> OrderedDict | None:
    """Train or evaluate in this process.

    Args:
        args: of ``clq_argument_parser()``.

    Returns:
        With ``--eval-only``, the metrics of the test sets, in percent.
    """
    cfg = setup(args)
    if args.eval_only:
        model = CLQTrainer.build_model(cfg)
        CompleteCheckpointer(model, trusted=cfg.MODEL.TRUST_WEIGHTS).load(cfg.MODEL.WEIGHTS)
        if cfg.MODEL.FAST_INFERENCE:
            model = fast_inference_model(model)
        return CLQTrainer.test(cfg, model)
    trainer = CLQTrainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


def run() -> None:
    """Start the processes that the command line asks for, or join those of torchrun or srun."""
    args = clq_argument_parser(epilog=__doc__).parse_args()
    with (
        exit_on_user_error(debug=args.debug),
        defer_peer_errors(is_first=is_local_rank_zero(os.environ)),
    ):
        args.place = detect_launcher(
            os.environ, num_gpus=args.num_gpus, num_machines=args.num_machines
        )
        if args.place is not None:
            on_cuda = device_of(args).startswith("cuda")
            run_in_process_group(main, args.place, on_cuda=on_cuda, args=(args,))
            return
        on_cuda = False
        if args.num_gpus * args.num_machines > 1:
            # Refuses what can't run before there are processes.
            on_cuda = build_config(args).MODEL.DEVICE.startswith("cuda")
        launch(
            main,
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            on_cuda=on_cuda,
            args=(args,),
        )


if __name__ == "__main__":
    run()
