"""Read Pascal VOC folders, with or without ImageSets."""

import os
import posixpath
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from .content import Annotations, LabeledImage, LabeledObject, Problems, make_content
from .files import files_by_stem, has_suffix, index_below, read_class_names, read_size, walk_files
from .layout import Layout
from .voc_images import choose_images, find_images, read_list
from .voc_xml import VocImage, read_voc

_SETS = Path("ImageSets", "Main")
# Lists of a split to train on and to evaluate on, the first that is there.
_ROLES = {"train": ("train", "trainval"), "val": ("val", "test")}


def annotation_folder(folder: Path) -> Path | None:
    """Return the folder of a VOC data set's xml files; None if it has none."""
    for place in (folder / "Annotations", folder / "annotations"):
        if any(has_suffix(name, ".xml") for _, names in walk_files(place) for name in names):
            return place
    return folder if files_by_stem(folder, ".xml") else None


def default_image_root(folder: Path) -> Path:
    """Return the folder of the images of a VOC data set."""
    places = [folder / name for name in ("JPEGImages", "images")]
    return next((place for place in places if place.is_dir()), folder)


def list_splits(folder: Path) -> list[str]:
    """Return the names of the lists of images in ImageSets/Main, without those of one class."""
    index = files_by_stem(folder / _SETS, ".txt")
    names = {name for names in _ROLES.values() for name in names}
    return sorted(names & index.keys()) or sorted(index)


def choose_split(folder: Path, splits: Sequence[str], role: str) -> str:
    """Return the list of the images to train or to evaluate on.

    Args:
        folder: of the data set.
        splits: its lists.
        role: ``train`` takes train.txt or else trainval.txt; ``val`` takes val.txt or test.txt.

    Returns:
        The list's name; empty where there are no lists, which takes all images.

    Raises:
        ValueError: there are lists, and none of these.
    """
    for name in _ROLES[role]:
        if name in splits:
            return name
    if not splits:
        return ""
    first, second = _ROLES[role]
    raise ValueError(
        f"{folder / _SETS} has neither {first}.txt nor {second}.txt; name one of its lists, as in "
        f"{folder}:{splits[0]}."
    )


def find_layout(folder: Path, split: str, image_root: str) -> Layout:
    """Find the files of a VOC data set, or of one of its lists.

    Args:
        folder: with Annotations or annotations, or with the xml files themselves.
        split: name of a list in ImageSets/Main; empty for all images.
        image_root: folder of the images; empty for JPEGImages, images or the folder itself.

    Raises:
        OSError: a file can't be read.
        ValueError: there is no such list, or it or classes.txt can't be used.
    """
    root = os.path.abspath(image_root or default_image_root(folder))
    xml_folder = annotation_folder(folder)
    assert xml_folder is not None, folder
    xml_files = index_below(os.path.abspath(xml_folder), ".xml")
    images = index_below(root)
    if Path(os.path.abspath(xml_folder)).is_relative_to(root):  # which may hold other pictures
        places = {"", *map(posixpath.dirname, xml_files)}
        images = {stem: images[stem] for stem in images if posixpath.dirname(stem) in places}
    list_file = folder / _SETS / f"{split}.txt"
    if split and not list_file.is_file():
        raise ValueError(f"{folder} has no {_SETS / list_file.name}.")
    listed = read_list(list_file, {*xml_files, *images}) if split else None
    named = read_class_names(folder, xml_folder)
    sources = [str(list_file)] if split else []
    sources += [str(named[1])] if named else []
    files = [path for index in (xml_files, images) for paths in index.values() for path in paths]
    files += dict.fromkeys([os.path.abspath(xml_folder), root, *map(os.path.dirname, files)])
    read = partial(_read, xml_files, images, listed, named and named[0], root)
    return Layout([*sources, *files], read)


def _read(
    xml_files: Mapping[str, list[str]],
    images: Mapping[str, list[str]],
    listed: Sequence[str] | None,
    class_names: Sequence[str] | None,
    root: str,
) -> Annotations:
    """Read all xml files, since together they tell the classes.

    Args:
        xml_files: paths by stem.
        images: paths by stem.
        listed: stems of the split; None for all.
        class_names: by class index; None for the sorted names of all xml files.
        root: folder of the images.
    """
    problems = Problems()
    content = {stem: _read_xml(paths, problems) for stem, paths in xml_files.items()}
    if class_names is None:
        class_names = sorted({o.name for voc in content.values() if voc for o in voc.objects})
    classes = {name: index for index, name in enumerate(class_names)}
    image_of = find_images(xml_files, images, content, problems)
    pairs = choose_images(listed, image_of, xml_files, images, problems)
    found = []
    for image, stem in pairs.items():
        voc = content.get(stem)
        size = (voc.width, voc.height) if voc and voc.width and voc.height else read_size(image)
        if isinstance(size, str):
            predicate = f"can't be read ({size}), and no xml states its size"
            problems.add("unreadable_image", "images that can't be read", image, predicate)
            continue
        objects = _objects(voc, xml_files[stem][0], classes, problems) if voc else []
        found.append(LabeledImage(image, *size, objects))
    return Annotations(make_content(found, class_names, root), problems.findings())


def _read_xml(paths: Sequence[str], problems: Problems) -> VocImage | None:
    file = paths[0]
    if len(paths) > 1:
        problems.add("same_stem", "xml files of one stem", paths[1], f"has the stem of {file}")
    try:
        return read_voc(file)
    except (OSError, ValueError) as error:
        reason = str(getattr(error, "strerror", None) or error).removeprefix(f"{file} ")
        predicate = reason.rstrip(".") if reason.startswith("is ") else f"can't be read ({reason})"
        problems.add("bad_xml", "xml files that can't be read", file, predicate)
        return None


def _objects(
    voc: VocImage, xml_file: str, classes: Mapping[str, int], problems: Problems
) -> list[LabeledObject]:
    """Return an xml file's objects, those of a class that is not listed left out and told."""
    objects = []
    for name, box, is_difficult in voc.objects:
        if name in classes:
            objects.append(LabeledObject(classes[name], box, is_difficult))
            continue
        predicate = f"has the class {name!r:.80}, which the list of classes lacks"
        what = "objects of a class that is not listed"
        problems.add("unknown_class", what, xml_file, predicate)
    return objects
