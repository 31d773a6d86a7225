"""Detect objects with a file of `clq export`, by NumPy and onnxruntime alone.

  python detect.py model.onnx photo.jpg

prints a line for each object: class, score, and x1, y1, x2, y2 in pixels of the upright photo,
which Pillow opens. The file is one without --nms. What else `clq predict` does is left out: tiles,
test-time augmentation, more than 8 bits, and the limit of candidates per level, reached by crowds.
"""

import json
import sys

import numpy as np
import onnxruntime as ort


def read(session: ort.InferenceSession, name: str):
    """Read a value out of the file's metadata."""
    return json.loads(session.get_modelmeta().custom_metadata_map[name])


def detect(session: ort.InferenceSession, image: np.ndarray, threshold: float = 0.3) -> tuple:
    """Detect objects whose score exceeds the threshold, or the file's own where that is higher.

    Args:
        session: of the exported file.
        image: (H, W, 3) uint8 RGB, at the size that the network is to see.
        threshold: of the joint score.

    Returns:
        Boxes (P, 4), xyxy in pixels of the image, scores (P,) and classes (P,), best first.
    """
    size = image.shape[:2]
    padded = read(session, "fixed_size") or [n + -n % read(session, "size_divisor") for n in size]
    batch = np.tile(np.float32(read(session, "pixel_mean")), (*padded, 1))
    order = 1 if read(session, "channel_order") == "RGB" else -1
    batch[: size[0], : size[1]] = image[:, :, ::order]
    boxes, scores = session.run(None, {"images": batch.transpose(2, 0, 1)[None]})

    rows, classes = np.nonzero(scores[0] > max(threshold, read(session, "score_threshold")))
    boxes, scores = boxes[0, rows].clip(0, np.float32(size[::-1] * 2)), scores[0, rows, classes]
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    max_iou, kept = read(session, "nms_threshold"), []
    for i in np.argsort(-scores, kind="stable"):
        same = [k for k in kept if classes[k] == classes[i]]
        low, high = np.maximum(boxes[i], boxes[same]), np.minimum(boxes[i], boxes[same])
        common = (high[:, 2:] - low[:, :2]).clip(0).prod(axis=1)
        if (common <= max_iou * (areas[i] + areas[same] - common)).all():
            kept.append(i)
    kept = [k for k in kept[: read(session, "max_detections")] if areas[k] > 0]
    return boxes[kept], scores[kept], classes[kept]


if __name__ == "__main__":
    from PIL import Image, ImageOps

    session, photo = ort.InferenceSession(sys.argv[1]), Image.open(sys.argv[2])
    photo = ImageOps.exif_transpose(photo).convert("RGB")
    names, *sizes = (read(session, name) for name in ("class_names", "min_size", "max_size"))
    scale = min(np.divide(sizes, sorted(photo.size))) or 1  # a min_size of 0 does not resize
    seen = photo.resize([int(scale * n + 0.5) or 1 for n in photo.size], Image.Resampling.BILINEAR)
    for box, score, label in zip(*detect(session, np.asarray(seen))):
        box *= np.divide(photo.size * 2, seen.size * 2)
        print(f"{names[label]} {score:.2f}", *box.round(1))
