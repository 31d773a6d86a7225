"""data.yaml: class names as written, and where the images of a split lie."""

from pathlib import Path

import pytest

from clq.data.formats.data_yaml import read_data_yaml

NAMES = "names: [x, y]\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "data.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("[no, 1, 2.50, a b]", ["no", "1", "2.50", "a b"]),
        ("{1: y, 0: x}", ["x", "y"]),
        ("\n  '0': on\n  '1': null", ["on", "null"]),
    ],
)
def test_names_stay_as_written(names: str, expected: list[str], tmp_path: Path):
    assert read_data_yaml(write(tmp_path, f"names: {names}\n")).class_names == expected


@pytest.mark.parametrize("path", ["", "path: .\n", "path: sub/..\n", "path:\n"])
def test_paths_start_from_the_file(path: str, tmp_path: Path):
    for folder in ("a", "b", "sub"):
        (tmp_path / folder).mkdir()
    text = f"{path}{NAMES}train: [a, ../b]\nval: b\ntest:\n"
    data = read_data_yaml(write(tmp_path, text))
    assert data.root == str(tmp_path) and list(data.entries) == ["train", "val"]
    # Roboflow writes ../b for a folder beside the file.
    assert data.places("train", data.root) == ([f"{tmp_path}/a", f"{tmp_path}/b"], [], [])


def test_valid_is_val(tmp_path: Path):
    data = read_data_yaml(write(tmp_path, f"{NAMES}train: a\nvalid: b"))
    assert data.entries == {"train": ["a"], "val": ["b"]}


def test_path_may_start_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "deep" / "images").mkdir(parents=True)
    file = write(tmp_path / "deep", f"path: deep\n{NAMES}train: images")
    monkeypatch.chdir(tmp_path)
    assert read_data_yaml(file).root == f"{tmp_path}/deep"


def test_images_in_a_list(tmp_path: Path):
    (tmp_path / "lists").mkdir()
    (tmp_path / "b.png").touch()
    (tmp_path / "lists" / "t.txt").write_text(f"./a.png\nb.png\n\n{tmp_path}/c d.png\n")
    data = read_data_yaml(write(tmp_path, f"{NAMES}train: lists/t.txt"))
    listed = [f"{tmp_path}/lists/a.png", f"{tmp_path}/b.png", f"{tmp_path}/c d.png"]
    assert data.places("train", data.root) == ([], listed, [f"{tmp_path}/lists/t.txt"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "data.yaml is no yaml: "),
        ("train: a", "has no `names`"),
        ("names: []", "must be a list of class names"),
        ("names: {0: x, 2: y}", r"must be numbered 0 to 1, not \['0', '2'\]"),
        ("names: [x]\nnc: 2", "has nc '2', but 1 names"),
        (f"{NAMES}train: {{a: b}}", "'train' of .* must be a path or a list of paths"),
        (f"path: nowhere\n{NAMES}", "`path` of .* is nowhere, which does not exist"),
        (f"{NAMES}train: nowhere", "'train' of .* is nowhere, but .*/nowhere is neither a folder"),
        (NAMES, "data.yaml has none of `train`, `val` and `test`, which name the images"),
        ("names: [x, ' ']", "name 1 of .*data.yaml is empty"),
        (f"{NAMES}val: .\nvalid: .", "has both `val` and `valid`; leave one out"),
        (f"{NAMES}val: .", "names no images for 'train'; its splits are: val"),
    ],
)
def test_what_is_wrong_is_one_sentence(text: str, message: str, tmp_path: Path):
    with pytest.raises(ValueError, match=message):
        data = read_data_yaml(write(tmp_path, text))
        data.places("train", data.root)


def test_a_yaml_that_grows_is_refused(tmp_path: Path):
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    for k, name in enumerate("bcdefgh"):
        bomb += f"{name}: &{name} [{', '.join(['*' + 'abcdefgh'[k]] * 10)}]\n"
    with pytest.raises(ValueError, match="is no yaml: it has more than"):
        read_data_yaml(write(tmp_path, bomb + "names: *h\n"))
