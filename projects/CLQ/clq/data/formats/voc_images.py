"""Image of each Pascal VOC xml file.

Images and xml files are given as lists of paths by stem, which begins with the subfolder if there
is one: ``cam1/a``.
"""

import os
import posixpath
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from ..coco.findings import quote_unprintable
from .content import Problems
from .files import is_image, read_lines
from .voc_xml import VocImage


def find_images(
    xml_files: Mapping[str, list[str]],
    images: Mapping[str, list[str]],
    content: Mapping[str, VocImage | None],
    problems: Problems,
) -> dict[str, str]:
    """Return the image of each xml file, by the xml's stem.

    It is the one of that stem, or else the one that the file names and that no other xml has: in
    the subfolder of the xml, or the only one of that name.
    """
    image_of = {stem: images[stem][0] for stem in xml_files if stem in images}
    owners = {image: stem for stem, image in image_of.items()}
    by_name = _index_names(images)
    for stem, (xml_file, *_) in xml_files.items():
        voc = content[stem]
        named = voc.file_name if voc else ""
        shown, own = quote_unprintable(named), image_of.get(stem)
        if own is not None:
            if named not in ("", posixpath.basename(stem), os.path.basename(own)):
                what = "xml files that name another image than that of their stem"
                predicate = f"names {shown}, but has the stem of {os.path.basename(own)}"
                why = "the stem counts"
                problems.add("other_file_name", what, xml_file, predicate, consequence=why)
            continue
        beside = posixpath.join(posixpath.dirname(stem), named)
        image = by_name.get(beside) or by_name.get(named, "")
        if image and owners.setdefault(image, stem) != stem:
            what = "images with two xml files"
            predicate = f"names {shown}, which is the image of {xml_files[owners[image]][0]}"
            problems.add("two_label_files", what, xml_file, predicate)
        elif image:
            image_of[stem] = image
    return image_of


def _index_names(images: Mapping[str, list[str]]) -> dict[str, str]:
    """Return images by their names, with the subfolder, and without it if only one has the name."""
    paths = [(stem, path) for stem, found in images.items() for path in found]
    names = [os.path.basename(path) for _, path in paths]
    counts = Counter(names)
    alone = {name: path for name, (_, path) in zip(names, paths) if counts[name] == 1}
    full = (posixpath.join(posixpath.dirname(stem), n) for n, (stem, _) in zip(names, paths))
    return alone | {name: path for name, (_, path) in zip(full, paths)}


def read_list(list_file: Path, stems: Collection[str]) -> list[str]:
    """Read the stems of a split, which some tools write with the suffix of the image.

    Args:
        list_file: in ImageSets/Main.
        stems: that there are.

    Raises:
        OSError: the file can't be read.
        ValueError: it lists the images of a class, with a flag behind each.
    """
    listed = []
    for line in filter(None, read_lines(list_file)):
        stem, flag = (line.rsplit(maxsplit=1) + [""])[:2]
        if line not in stems and stem in stems and flag in ("1", "0", "-1"):
            raise ValueError(
                f"{list_file} lists the images of a class, with {flag} behind {stem}; name a list "
                "of images alone, such as train or val."
            )
        bare = os.path.splitext(line)[0]
        is_file = is_image(posixpath.basename(line)) or line.lower().endswith(".xml")
        listed.append(bare if line not in stems and bare in stems and is_file else line)
    return listed


def choose_images(
    listed: Sequence[str] | None,
    image_of: Mapping[str, str],
    xml_files: Mapping[str, list[str]],
    images: Mapping[str, list[str]],
    problems: Problems,
) -> dict[str, str]:
    """Return the images of a split, each with the stem of its xml file, which need not exist.

    Args:
        listed: stems of the split; None for all.
        image_of: image of each xml file, by the xml's stem.
        xml_files: paths by stem.
        images: paths by stem.
        problems: to add to.
    """
    owners = {image: stem for stem, image in image_of.items()}
    if listed is None:
        free = {stem for stem, paths in images.items() if paths[0] not in owners}
        stems: Sequence[str] = sorted(free | xml_files.keys())
    else:
        stems = listed
    chosen: dict[str, str] = {}
    for stem in stems:
        own = images.get(stem, [])
        image = image_of.get(stem) or (own[0] if own else "")
        if len(own) > 1:
            predicate = f"has the stem of {own[0]}, too: rename one of them"
            problems.add("same_stem", "images that share their xml file", own[1], predicate)
        if image:
            chosen[image] = owners.get(image, stem)
            if image not in owners:
                what, why = "images without an xml file", "train as negatives"
                problems.add("no_xml", what, image, "has no xml file", consequence=why)
        elif listed is not None:
            what = "images that are not in the folder"
            problems.add("missing_image", what, stem, "does not exist", role="image")
        else:
            what, why = "label files without an image", "their objects are not learned"
            file, predicate = xml_files[stem][0], "has no image of its stem"
            problems.add("label_without_image", what, file, predicate, consequence=why)
    return chosen
