"""Detect objects in images, from a file that `clq export` wrote.

  python -m clq.runtime model.onnx photos/ more.png

Needs NumPy, Pillow and onnxruntime (an .xml needs openvino instead, a .pt2 PyTorch); `clq predict`
takes such a file as well, and videos and streams. Written is predictions.json, in the folder of
--output: all boxes as COCO json, x, y, width, height in pixels of the upright image.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..utils.once_parser import OnceParser
from ..utils.unprintable import escape_unprintable, print_output
from .coco_file import JSON_NAME, CocoFile, make_folder
from .detections import ImageDetections
from .exported import ExportedPredictor, ImageSizeError
from .images import allow_any_size
from .inputs import (
    Source,
    check_depth,
    common_folder,
    find_files,
    notes_on_pages,
    probe,
    read_frames,
)
from .options import ViewOptions, add_view_options
from .predictor import ImagePredictor

_MOST_IMAGES = 1024  # of a batch


def main(argv: Sequence[str] | None = None) -> None:
    options = _parse(argv)
    try:
        done = predict_images(
            options.model,
            options.inputs,
            Path(options.output).expanduser(),
            batch_size=options.batch_size,
            threads=options.threads,
            views=ViewOptions.from_arguments(options),
        )
    except KeyboardInterrupt:
        print(f"\nInterrupted; {JSON_NAME} was not written.", file=sys.stderr)
        sys.exit(130)
    except (FloatingPointError, MemoryError, OSError, ValueError) as error:
        text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        sys.exit(f"error: {escape_unprintable(text)}.\n{JSON_NAME} was not written")
    try:
        print_output(*done)
    except OSError as error:
        sys.exit(f"error: {error}")


def predict_images(
    model: str | Path,
    inputs: Sequence[str | Path],
    output: Path,
    *,
    batch_size: int = 1,
    threads: int | None = None,
    views: ViewOptions = ViewOptions(),
) -> list[str]:
    """Detect in images and write ``predictions.json``, that of `clq predict`, to a folder.

    Args:
        model: exported file.
        inputs: images and folders of them.
        output: folder; missing ones are created.
        batch_size: images that pass the network together, where they are padded to one size.
        threads: of the network.
        views: tiling and test-time augmentation.

    Returns:
        A report, one sentence an entry.

    Raises:
        OSError: a file can't be read or written.
        ValueError: a missing or unreadable input, or an invalid argument.
    """
    if not 1 <= batch_size <= _MOST_IMAGES:
        raise ValueError(f"--batch-size is {batch_size}; it must lie in [1, {_MOST_IMAGES}].")
    if views.tile:
        allow_any_size()
    root = common_folder(inputs)
    sources = [probe(path, root) for path in find_files(inputs, ignored=output)]
    for source in sources:
        if source.is_video:
            raise ValueError(f"{source.path} is a video; `clq predict` takes videos.")
    predictor = ExportedPredictor.from_file(model, threads=threads).with_options(views)
    for source in sources:
        check_depth(source, predictor.settings.bit_depth)
    make_folder(output)
    info = {"weights": str(model), "image_root": str(root)}
    coco = CocoFile(predictor.class_names, info)
    for start in range(0, len(sources), batch_size):
        batch = sources[start : start + batch_size]
        images = [next(read_frames(source, predictor.settings.bit_depth)) for source in batch]
        for source, found in zip(batch, _detect(predictor, batch, images)):
            coco.add(source.name, found)
    coco.write(output / JSON_NAME)
    count = f"{len(sources)} image" + "s" * (len(sources) != 1)
    done = f"{count}, {coco.num_detections} detections; boxes in {output / JSON_NAME}"
    return [*notes_on_pages(sources), done]


def _detect(
    predictor: ImagePredictor, sources: Sequence[Source], images: Sequence[np.ndarray]
) -> list[ImageDetections]:
    """Detect in a batch; the image is named that the graph does not take."""
    try:
        return predictor.find(images, len(images))
    except ImageSizeError as error:
        if len(images) == 1:
            raise ValueError(f"{sources[0].path}: {error}") from error
        return [_detect(predictor, [s], [image])[0] for s, image in zip(sources, images)]


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = OnceParser(prog="python -m clq.runtime", description=__doc__)
    parser.add_argument("model", metavar="MODEL", help="file that clq export wrote")
    parser.add_argument("inputs", metavar="IMAGE", nargs="+", help="image, or folder of images")
    parser.add_argument(
        "--output", default="predictions", metavar="DIR", help="folder (default: predictions)"
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        default=1,
        metavar="N",
        help="images that pass the network together where their sizes allow it (default: 1)",
    )
    parser.add_argument("--threads", type=int, metavar="N", help="of the network")
    add_view_options(parser)
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
