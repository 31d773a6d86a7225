"""Seeded mutations of good files, one target per reader, in a process with bounds.

    python tests/fuzz/readers.py TARGETS SEED SECONDS ROUNDS FOLDER

prints, for each of the targets between commas, how many files it read and how many were
refused. A file lies in FOLDER while it is read, so
that one which ends the process is still there.
"""

import io
import json
import pickle
import random
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from safetensors.torch import save

from clq.checkpoint.identify import read_weights
from clq.config import get_clq_cfg
from clq.config.read_yaml import check_config_file
from clq.config.serialize import dump_config, parse_config
from clq.data.coco.register import load_boxes
from clq.data.formats.data_yaml import read_data_yaml
from clq.data.formats.files import read_lines
from clq.data.formats.voc_xml import read_voc
from clq.data.formats.yolo_labels import parse_labels
from clq.runtime.images import READ_ERRORS, read_image

HANG = 10  # seconds that a file may take
MEMORY = 2 << 30  # bytes beside what the imports take
TOKENS = (
    b"\x00",
    b"\xff" * 4,
    b"[",
    b"{",
    b"*a",
    b"&a ",
    b"<<: ",
    b"-1",
    b"1e999",
    b"\x85",
    b"NaN",
)


def _weights() -> list[tuple[str, bytes]]:
    arrays = {"head.scales": np.ones(5, "f4"), "backbone.conv.weight": np.ones((2, 2, 3, 3), "f4")}
    tensors = {name: torch.from_numpy(value) for name, value in arrays.items()}
    content = {"model": tensors, "config": "SEED: 1", "class_names": ["a"]}
    metadata = {"config": "SEED: 1", "class_names": '["a"]'}
    archive, legacy = io.BytesIO(), io.BytesIO()
    torch.save(content, archive)
    torch.save(content, legacy, _use_new_zipfile_serialization=False)
    return [
        ("a.safetensors", save(tensors, metadata)),
        ("a.pth", archive.getvalue()),
        ("a.pth", legacy.getvalue()),
        *(("a.pkl", pickle.dumps({"model": arrays}, protocol=p)) for p in (2, 4, 5)),
    ]


def _json() -> list[tuple[str, bytes]]:
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 8, "width": 8}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 4, 4], "area": 16}
        ],
        "categories": [{"id": 1, "name": "a"}],
    }
    return [("a.json", json.dumps(content).encode())]


def _yaml() -> list[tuple[str, bytes]]:
    texts = (dump_config(get_clq_cfg()), "a: &a {x: 1}\nb: {<<: *a}\n", "_BASE_: b.yaml\nSEED: 1")
    return [("a.yaml", text.encode()) for text in texts]


def _labels() -> list[tuple[str, bytes]]:
    box, polygon = "0 0.5 0.5 0.25 1e-1\n", "1 0.1 0.1 0.2 0.2 0.3 0.1\n"
    return [("a.txt", text.encode()) for text in (box, polygon, box + polygon)]


def _data_yaml() -> list[tuple[str, bytes]]:
    texts = ("names: [a, b]\nnc: 2\ntrain: .\n", "path: .\nnames: {0: a}\nval: [., a.txt]\n")
    return [("data.yaml", text.encode()) for text in texts]


def _xml() -> list[tuple[str, bytes]]:
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox>"
    size = "<filename>a.jpg</filename><size><width>8</width><height>8</height></size>"
    text = f"<annotation>{size}<object><name>a</name>{box}</object></annotation>"
    return [("a.xml", text.encode())]


def _images() -> list[tuple[str, bytes]]:
    image = Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3))
    found = []
    for kind in ("png", "jpeg", "bmp", "gif", "tiff", "webp"):
        buffer = io.BytesIO()
        image.save(buffer, kind)
        found.append((f"a.{kind}", buffer.getvalue()))
    return found


def _read_yaml(path: Path) -> None:
    check_config_file(str(path))
    parse_config(path.read_text())


def _read_json(path: Path) -> None:
    load_boxes(path, path.parent, "fuzzed")


def _read_labels(path: Path) -> None:
    found = parse_labels(read_lines(path), (640, 480), 2)
    assert np.isfinite([entry.box for entry in found.objects]).all()


# Good files, the reader, and the errors by which it may refuse a file.
TARGETS: dict[str, tuple[Callable, Callable[[Path], Any], tuple[type[Exception], ...]]] = {
    "weights": (_weights, read_weights, (ValueError, OSError)),
    "json": (_json, _read_json, (ValueError, OSError)),
    "labels": (_labels, _read_labels, (ValueError, OSError)),
    "data_yaml": (_data_yaml, read_data_yaml, (ValueError, OSError)),
    "xml": (_xml, read_voc, (ValueError, OSError)),
    "yaml": (_yaml, _read_yaml, (ValueError, OSError, yaml.YAMLError)),
    "images": (_images, read_image, READ_ERRORS),
}


def mutate(content: bytes, rng: random.Random) -> bytes:
    """Change, repeat, drop or insert up to eight pieces, most often near the start."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        at = int(len(data) * rng.random() ** rng.choice((1, 3)))
        kind = rng.randrange(5)
        if kind == 0 and data:
            data[min(at, len(data) - 1)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at : at + 1] = rng.randbytes(1)
        elif kind == 2:
            del data[at : at + rng.randint(1, 32)]
        elif kind == 3:
            data[at:at] = rng.choice(TOKENS) * rng.choice((1, 1, 2, 100))
        else:
            data[at:at] = data[at : at + rng.randint(1, 64)] * rng.randint(1, 4)
    return bytes(data)


def _stop(*_: Any) -> None:
    raise AssertionError(f"a file took more than {HANG} s")


def _bound() -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    signal.signal(signal.SIGALRM, _stop)


def main(target: str, seed: int, seconds: float, rounds: int, folder: Path) -> None:
    """Read mutated files until the time or the rounds are over."""
    make, read, refusals = TARGETS[target]
    sources, rng = make(), random.Random(seed)
    end, count, refused = time.monotonic() + seconds, 0, 0
    while count < rounds and time.monotonic() < end:
        name, content = sources[count % len(sources)]
        path = folder / name
        path.write_bytes(mutate(content, rng))
        signal.alarm(HANG)
        try:
            read(path)
        except refusals:
            refused += 1
        finally:
            signal.alarm(0)
        path.unlink()
        count += 1
    print(count, refused)


if __name__ == "__main__":
    _bound()
    for name in sys.argv[1].split(","):
        main(name, int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
