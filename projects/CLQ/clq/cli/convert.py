"""Turn trained weights into a checkpoint that alone is enough for inference.

IN may be a checkpoint of mmdetection 2.x or 3.x (ATSS, GFL or the CLQ authors' head, with a ResNet
or ResNeXt, deformable stages or not), or a checkpoint of our own training. What the detector looks
like is read off its tensors, so no config of mmdetection is needed. Every tensor must find its
place: what is missing, unknown or of another shape is listed by name, and nothing is written.

  OUT.safetensors   tensors, with configuration and class names inside
  OUT.pth           the same in PyTorch's format

Then, with no other file:
  clq eval --weights OUT.safetensors --val val.json images/

The authors' head has one class channel too many, trained to say nothing. It is dropped where it
says nothing (bias at most -9, weight norm at most a quarter of the median class); else say what to
do with it. Keys that tensors do not show may follow at the end, such as MODEL.CLQ.NUM_GROUPS 16.
"""

import os
from collections.abc import Sequence

from ..checkpoint import Spare, convert
from ..engine import exit_on_user_error, print_output
from ..engine.run_config.merge import find_config
from ..utils.once_parser import OnceParser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> None:
    parser = OnceParser(prog=prog, description=__doc__)
    parser.add_argument("source", metavar="IN", help="file or address of the weights")
    parser.add_argument("target", metavar="OUT", help="file to write, .safetensors or .pth")
    spare = parser.add_mutually_exclusive_group()
    for flag, value, text in (
        ("--keep-spare", Spare.KEEP, "keep the spare class channel as one more class"),
        ("--drop-spare", Spare.DROP, "drop the spare class channel whatever it says"),
    ):
        spare.add_argument(flag, dest="spare", action="store_const", const=value, help=text)
    parser.set_defaults(spare=Spare.DROP_IF_SILENT)
    parser.add_argument(
        "--unsafe", action="store_true", help="let a pickle run code; only for files you trust"
    )
    parser.add_argument(
        *("--config", "--config-file"),
        dest="config_file",
        default="",
        metavar="NAME|FILE",
        help="of a detector whose file holds no config",
    )
    parser.add_argument("opts", nargs="*", help="configuration keys and values")
    options = parser.parse_intermixed_args(argv)
    with exit_on_user_error(hint="nothing was written"):
        done = convert(
            os.path.expanduser(options.source),
            os.path.expanduser(options.target),
            spare=options.spare,
            trusted=options.unsafe,
            config_file=find_config(options.config_file),
            opts=options.opts,
        )
        print_output(*done)
