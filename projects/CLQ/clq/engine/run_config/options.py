"""The options of a run, as a command line or a notebook gives them."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from detectron2.engine import default_argument_parser

from ...utils.once_parser import OnceParser
from ..distributed.cluster_env import RankInfo


@dataclass
class RunOptions:
    """Options of a training run or an evaluation.

    The arguments of :func:`clq_argument_parser` fill one in, so that both are the same to
    :func:`clq.engine.setup`.

    Attributes:
        config_file: a yaml, or the name of a config that CLQ ships, such as
            ``clq_R_50_FPN_1x``; empty where the weights hold their own.
        train: annotations and image folder to train on, of several data sets one after the other,
            see :func:`clq.data.formats.source.resolve_data`; an empty folder is that of the
            annotations. Without any, ``DATASETS.TRAIN``.
        val: the same to evaluate on, or ``DATASETS.TEST``.
        weights: ``MODEL.WEIGHTS``; empty for that of the config.
        output_dir: ``OUTPUT_DIR``; empty for that of the config.
        opts: configuration keys and values in turn, which go before the config file.
        resume: continue from the newest checkpoint in ``OUTPUT_DIR``. :func:`clq.engine.setup`
            sets it where torchrun has restarted the processes.
        eval_only: evaluate ``MODEL.WEIGHTS`` instead of training.
        num_gpus: processes to start on each machine.
        num_machines: that take part.
        machine_rank: of this machine among them.
        dist_url: where the processes meet; by default Detectron2's, whose port depends on the user.
        debug: show the traceback of a user's error too.
        place: rank of this process, where torchrun or srun started it.
    """

    config_file: str = ""
    train: Sequence[str] = field(default_factory=list)
    val: Sequence[str] = field(default_factory=list)
    weights: str = ""
    output_dir: str = ""
    opts: Sequence[str] = ()
    resume: bool = False
    eval_only: bool = False
    num_gpus: int = 1
    num_machines: int = 1
    machine_rank: int = 0
    dist_url: str = field(default_factory=lambda: default_argument_parser().get_default("dist_url"))
    debug: bool = False
    place: RankInfo | None = None

    @property
    def given(self) -> dict[str, str]:
        """Configuration keys that the user gives outside of a file, with unparsed values."""
        flags = {"MODEL.WEIGHTS": self.weights, "OUTPUT_DIR": self.output_dir}
        given = {key: value for key, value in flags.items() if value}
        return {**given, **dict(zip(self.opts[::2], self.opts[1::2]))}

    @property
    def world_size(self) -> int:
        """Number of processes of the run, whatever starts them."""
        return self.place.world_size if self.place else max(self.num_machines * self.num_gpus, 1)


class _Parser(OnceParser):
    """Parses into :class:`RunOptions`."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        return super().parse_known_args(args, RunOptions() if namespace is None else namespace)


def clq_argument_parser(epilog: str | None = None, **options: Any) -> argparse.ArgumentParser:
    """Parser of Detectron2's arguments, and ``--train``, ``--val`` and ``--debug``.

    Its ``parse_args`` returns :class:`RunOptions`.

    Args:
        epilog: below the list of arguments.
        options: of ``argparse.ArgumentParser``.
    """
    parser = _Parser(epilog=epilog, **options)
    add = parser.add_argument
    add(
        *("--config", "--config-file"),
        dest="config_file",
        metavar="NAME|FILE",
        help="a config that CLQ ships, such as clq_R_50_FPN_1x, or a yaml file",
    )
    for flag, use in (("--train", "train"), ("--val", "evaluate")):
        text = f"{use} on a COCO JSON file and its image folder, a YOLO data.yaml, or a YOLO or "
        text += "Pascal VOC folder; once for each data set"
        parser.add_data(flag, action="extend", help=text)
    add("--weights", metavar="FILE", help="checkpoint to start from or to evaluate: MODEL.WEIGHTS")
    add("--output", dest="output_dir", metavar="DIR", help="folder for all results: OUTPUT_DIR")
    add("--resume", action="store_true", help="continue from the newest checkpoint in OUTPUT_DIR")
    add("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS instead of training")
    add("--num-gpus", type=int, metavar="N", help="processes to start on this machine (default: 1)")
    add("--num-machines", type=int, metavar="N", help="machines that take part (default: 1)")
    add("--machine-rank", type=int, metavar="I", help="index of this machine among them")
    add("--dist-url", metavar="URL", help="where the processes meet, such as tcp://node1:29500")
    add("--debug", action="store_true", help="show the traceback of a user's error")
    add("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="configuration, at the end")
    return parser
