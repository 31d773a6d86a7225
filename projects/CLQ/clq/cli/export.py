"""Write a checkpoint as a file that other runtimes load, without CLQ or Detectron2.

  clq export output/model_final.safetensors model.onnx

The ending of OUTPUT tells the format:

  .onnx   ONNX, opset 18, for ONNX Runtime and others
  .xml    OpenVINO, with the weights beside it in .bin
  .pt2    a program of torch.export

All take pixels from 0 to 255 in batches of any number and size, and give the boxes and joint scores
of the best anchors of each level. Normalization is inside; NMS is not, unless --nms is given.
Metadata tells class names, channel order, sizes and thresholds.

A file is written only if it agrees with PyTorch: on random images of two sizes, and on those of
--images, boxes may differ by 0.05 pixels and scores by 0.0001, before NMS.
"""

from collections.abc import Sequence

from ..engine import exit_on_user_error, print_output
from ..exporting.formats import FORMATS
from ..exporting.run import export
from ..utils.once_parser import OnceParser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> None:
    parser = OnceParser(prog=prog, description=__doc__)
    parser.add_argument("weights", metavar="WEIGHTS", help="checkpoint, .safetensors or .pth")
    parser.add_argument("output", metavar="OUTPUT", help="file to write")
    parser.add_argument(
        "--format", metavar="NAME", help=f"{', '.join(FORMATS)} (default: as OUTPUT ends)"
    )
    parser.add_argument("--opset", type=int, metavar="N", help="of ONNX; 18 is the only one")
    parser.add_argument(
        "--nms",
        action="store_true",
        help="ONNX with NMS inside, for ONNX Runtime: boxes, scores, classes and batch_indices",
    )
    parser.add_argument(
        "--size",
        nargs=2,
        type=int,
        metavar=("H", "W"),
        help="the only size of images, for networks that can't be exported for any",
    )
    parser.add_argument(
        "--images", nargs="+", default=[], metavar="PATH", help="files or folders to compare on too"
    )
    parser.add_argument(
        "--int8",
        action="store_true",
        help="ONNX with most convolutions in 8 bits, after the comparison; it costs AP",
    )
    parser.add_argument(
        "--calibrate",
        nargs="+",
        default=[],
        metavar="PATH",
        help="for --int8: files or folders of images like those of the training, some 200",
    )
    parser.add_data("--val", default=[], help="for --int8: data to tell AP on, before and after")
    options = parser.parse_args(argv)
    with exit_on_user_error(hint="nothing was written"):
        if options.int8 != bool(options.calibrate):
            raise ValueError("--int8 and --calibrate IMAGES go together; give both or neither.")
        done = export(
            options.weights,
            options.output,
            format=options.format,
            opset=options.opset,
            nms=options.nms,
            size=options.size and tuple(options.size),
            images=options.images,
            calibrate=options.calibrate,
            val=options.val,
        )
        print_output(*done.describe())
