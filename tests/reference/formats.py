"""A COCO data set written once more in the forms of YOLO and Pascal VOC."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reference.tiny import Pair


def boxes_of(content: dict[str, Any], image_id: int) -> list[tuple[int, str, list[float]]]:
    """Class index, class name and COCO box of an image's objects, classes by rising id."""
    ids = sorted(category["id"] for category in content["categories"])
    names = {category["id"]: category["name"] for category in content["categories"]}
    return [
        (ids.index(a["category_id"]), names[a["category_id"]], a["bbox"])
        for a in content["annotations"]
        if a["image_id"] == image_id
    ]


def write_yolo(
    pair: Pair, folder: Path, split: str = "train", form: Callable[[float], str] = "{:.6f}".format
) -> Path:
    """Write images/SPLIT, labels/SPLIT and data.yaml, which is returned.

    Args:
        pair: to write once more; an image without objects gets no label file.
        folder: that other splits may be in.
        split: ``train`` or ``val``.
        form: writes a fraction.
    """
    content = pair.content
    shutil.copytree(pair.images, folder / "images" / split)
    (folder / "labels" / split).mkdir(parents=True)
    for image in content["images"]:
        lines = []
        for index, _, (x, y, w, h) in boxes_of(content, image["id"]):
            width, height = image["width"], image["height"]
            fractions = (x + w / 2) / width, (y + h / 2) / height, w / width, h / height
            lines.append(" ".join([str(index), *map(form, fractions)]))
        if lines:
            label = folder / "labels" / split / Path(image["file_name"]).with_suffix(".txt")
            label.write_text("\n".join(lines) + "\n")
    names = [c["name"] for c in sorted(content["categories"], key=lambda c: c["id"])]
    data = folder / "data.yaml"
    before = data.read_text() if data.exists() else f"names: [{', '.join(names)}]\n"
    data.write_text(f"{before}{split}: images/{split}\n")
    return data


def write_voc(pair: Pair, folder: Path) -> Path:
    """Write JPEGImages and Annotations, without ImageSets; returns the folder."""
    content = pair.content
    shutil.copytree(pair.images, folder / "JPEGImages")
    (folder / "Annotations").mkdir()
    for image in content["images"]:
        objects = [(name, box) for _, name, box in boxes_of(content, image["id"])]
        write_xml(folder / "Annotations", image, objects)
    return folder


def write_xml(
    folder: Path, image: dict[str, Any], objects: list[tuple[str, list[float]]], more: str = ""
) -> Path:
    """Write one xml file with COCO boxes, and ``more`` in each object."""
    entries = ""
    for name, (x, y, w, h) in objects:
        corners = zip(("xmin", "ymin", "xmax", "ymax"), (x, y, x + w, y + h))
        box = "".join(f"<{corner}>{value}</{corner}>" for corner, value in corners)
        entries += f"<object><name>{name}</name>{more}<bndbox>{box}</bndbox></object>"
    size = f"<size><width>{image['width']}</width><height>{image['height']}</height></size>"
    file_name = f"<filename>{image['file_name']}</filename>"
    path = folder / Path(image["file_name"]).with_suffix(".xml").name
    path.write_text(f"<annotation>{file_name}{size}{entries}</annotation>")
    return path
