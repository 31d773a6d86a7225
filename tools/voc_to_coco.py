#!/usr/bin/env python
"""Turn one split of a Pascal VOC data set into a COCO json that train_net.py reads.

VOC keeps one xml file for each image in Annotations/, and the names of a split's images in
ImageSets/Main/SPLIT.txt. The numbers of a box are taken as they stand, as corners in pixels. Boxes
without a positive width and height are dropped, with a line for each; objects that VOC marks as
difficult are objects like the others. --classes fixes the order of the classes; a training and an
evaluation json need the same one.

The blood cells of docs/accuracy.md (MIT licence):
  git clone https://github.com/Shenggan/BCCD_Dataset
  python tools/voc_to_coco.py BCCD_Dataset/BCCD train --classes RBC WBC Platelets --out train.json
  python tools/voc_to_coco.py BCCD_Dataset/BCCD val --classes RBC WBC Platelets --out val.json
Their photographs are in BCCD_Dataset/BCCD/JPEGImages.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clq.data.coco.voc import coco_annotation, read_voc
from clq.engine import exit_on_user_error
from clq.utils.atomic_write import write_atomically


def convert(folder: Path, split: str, classes: Sequence[str]) -> dict[str, Any]:
    """The split as COCO json: image and category ids count from 1.

    Args:
        folder: holds Annotations/, ImageSets/Main/ and JPEGImages/.
        split: name of a file in ImageSets/Main/, without suffix.
        classes: class names in the order of their ids.

    Raises:
        OSError: a file that is not there.
        ValueError: a file that can't be read, or a class that is not among ``classes``.
    """
    category_ids = {name: k for k, name in enumerate(classes, start=1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    names = (folder / "ImageSets" / "Main" / f"{split}.txt").read_text().split()
    for image_id, name in enumerate(names, start=1):
        xml_file = folder / "Annotations" / f"{name}.xml"
        voc = read_voc(xml_file)
        file_name = _file_name(folder / "JPEGImages", name)
        sizes = {"width": voc.width, "height": voc.height}
        images.append({"id": image_id, "file_name": file_name, **sizes})
        for class_name, box in voc.objects:
            if class_name not in category_ids:
                raise ValueError(
                    f"{xml_file} has the class '{class_name}', which --classes does not name."
                )
            if box[2] <= box[0] or box[3] <= box[1]:
                print(f"{xml_file}: dropped a {class_name} without area, {box}.")
                continue
            id_ = len(annotations) + 1
            annotations.append(coco_annotation(id_, image_id, category_ids[class_name], box))
    categories = [{"id": k, "name": name} for name, k in category_ids.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def _file_name(folder: Path, name: str) -> str:
    """The image's name with its suffix; what the xml calls it is often out of date."""
    found = sorted(path.name for path in folder.glob(f"{name}.*"))
    if not found:
        raise ValueError(f"{folder} has no image {name}.")
    return found[0]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="holds Annotations/ and ImageSets/Main/")
    parser.add_argument("split", help="file in ImageSets/Main/ without .txt, such as train")
    parser.add_argument("--classes", nargs="+", required=True, help="class names in their order")
    parser.add_argument("--out", type=Path, required=True, help="json to write")
    options = parser.parse_args(argv)
    with exit_on_user_error():
        content = convert(options.folder, options.split, options.classes)
        write_atomically(options.out, json.dumps(content).encode())
    counts = f"{len(content['images'])} images, {len(content['annotations'])} boxes"
    print(f"{options.out}: {counts}")


if __name__ == "__main__":
    main()
