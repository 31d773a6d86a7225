"""The wheel builder, on a small archive that holds just what the patches look for."""

import base64
import csv
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import build_detectron2_wheel as builder
from build_detectron2_wheel import PATCHES, Patch, WheelBuildError, apply_patches, build_wheel

DIST_INFO = "detectron2-0.6+pure.dist-info"
CONFIGS = "detectron2/model_zoo/configs"
TOOL = Path(builder.__file__)


def source_files() -> dict[str, str]:
    """Files of a source archive that every patch matches."""
    files = {
        "LICENSE": "Apache License",
        "README.md": "not installed",
        "setup.py": "import torch",
        "tools/train_net.py": "not installed",
        "detectron2/__init__.py": '__version__ = "0.6"\n',
        "detectron2/notes.txt": "not installed",
        f"{CONFIGS}/Base.yaml": "VERSION: 2\n",
        f"{CONFIGS}/common/train.py": "train = {}\n",
        "projects/PointRend/point_rend/__init__.py": "POINT = 1\n",
        "projects/DeepLab/deeplab/__init__.py": "LAB = 1\n",
        "projects/Panoptic-DeepLab/panoptic_deeplab/__init__.py": "PANOPTIC = 1\n",
    }
    for patch in PATCHES:
        files[patch.path] = files.get(patch.path, "") + f"{patch.old}\n" * patch.times
    return files


def write_archive(path: Path, files: dict[str, str], mtime: int = 0) -> Path:
    """Write a .tar.gz with every file below one top folder, and a folder and a link among them."""
    with tarfile.open(path, "w:gz") as tar:
        folder = tarfile.TarInfo("pb1-detectron2-0.6/detectron2")
        folder.type = tarfile.DIRTYPE
        link = tarfile.TarInfo("pb1-detectron2-0.6/detectron2/link.py")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(folder)
        tar.addfile(link)
        for name, text in files.items():
            info = tarfile.TarInfo(f"pb1-detectron2-0.6/{name}")
            info.size, info.mtime = len(text.encode()), mtime
            tar.addfile(info, io.BytesIO(text.encode()))
    return path


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A source archive that the builder accepts."""
    path = write_archive(tmp_path / "source.tar.gz", source_files())
    accept(path, monkeypatch)
    return path


def accept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(builder, "ARCHIVE_SHA256", digest)


def test_wheel_holds_the_package_configs_and_projects(archive, tmp_path):
    wheel = build_wheel(archive, tmp_path / "dist")
    assert wheel == tmp_path / "dist" / "detectron2-0.6+pure-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as content:
        names = content.namelist()
    expected = {patch.path for patch in PATCHES} | {
        "detectron2/__init__.py",
        "detectron2/_C.py",
        f"{CONFIGS}/Base.yaml",
        f"{CONFIGS}/common/train.py",
        "detectron2/projects/point_rend/__init__.py",
        "detectron2/projects/deeplab/__init__.py",
        "detectron2/projects/panoptic_deeplab/__init__.py",
        f"{DIST_INFO}/LICENSE",
        f"{DIST_INFO}/METADATA",
        f"{DIST_INFO}/WHEEL",
        f"{DIST_INFO}/RECORD",
    }
    assert len(names) == len(set(names))
    assert set(names) == expected


def test_record_lists_every_file_with_its_hash_and_size(archive, tmp_path):
    with zipfile.ZipFile(build_wheel(archive, tmp_path)) as content:
        rows = list(csv.reader(io.StringIO(content.read(f"{DIST_INFO}/RECORD").decode())))
        assert [row[0] for row in rows] == content.namelist()
        assert rows.pop() == [f"{DIST_INFO}/RECORD", "", ""]
        for path, digest, size in rows:
            data = content.read(path)
            raw = hashlib.sha256(data).digest()
            assert digest == "sha256=" + base64.urlsafe_b64encode(raw).decode().rstrip("=")
            assert int(size) == len(data)


def test_metadata_declares_what_is_imported(archive, tmp_path):
    with zipfile.ZipFile(build_wheel(archive, tmp_path)) as content:
        metadata = Parser().parsestr(content.read(f"{DIST_INFO}/METADATA").decode())
        wheel = content.read(f"{DIST_INFO}/WHEEL").decode()
    assert (metadata["Name"], metadata["Version"]) == ("detectron2", "0.6+pure")
    requirements = metadata.get_all("Requires-Dist")
    assert "iopath>=0.1.7" in requirements
    for absent in ("black", "future", "pydot", "setuptools"):
        assert not any(line.startswith(absent) for line in requirements)
    assert "Root-Is-Purelib: true\nTag: py3-none-any\n" in wheel


def test_same_archive_gives_the_same_bytes(archive, tmp_path, monkeypatch):
    first = build_wheel(archive, tmp_path / "first").read_bytes()
    assert build_wheel(archive, tmp_path / "second").read_bytes() == first
    shuffled = dict(reversed(source_files().items()))
    other = write_archive(tmp_path / "shuffled.tar.gz", shuffled, mtime=1_700_000_000)
    accept(other, monkeypatch)
    assert build_wheel(other, tmp_path / "third").read_bytes() == first


def test_pip_installs_the_wheel_and_c_stands_in(archive, tmp_path):
    wheel, site = build_wheel(archive, tmp_path), tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--target", str(site), str(wheel)], check=True)
    program = (
        "import detectron2._C as c, inspect\n"
        "print(c.get_compiler_version(), '|', c.get_cuda_version(), '|', c.has_cuda())\n"
        "print(hasattr(c, '__path__'), inspect.unwrap(c) is c)\n"
        "for use in ('c.box_iou_rotated', 'exec(\"from detectron2._C import nms_rotated\")'):\n"
        "    try: eval(use)\n"
        "    except ImportError as error: print(error)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, "-c", program]
    lines = subprocess.run(
        command, env=environment, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    sentence = (
        "detectron2._C.{} is a compiled operator, and this detectron2 (0.6+pure) has none: "
        "build Detectron2 from source to use it."
    )
    assert lines == [
        "none (pure Python) | none (pure Python) | False",
        "False True",
        sentence.format("box_iou_rotated"),
        sentence.format("nms_rotated"),
    ]


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: f"{patch.path}:{patch.old[:24]!r}")
@pytest.mark.parametrize("change", ("more", "fewer", "missing"))
def test_a_patch_that_no_longer_matches_stops(patch: Patch, change: str):
    files = {path: text.encode() for path, text in source_files().items()}
    text = files[patch.path]
    old = patch.old.encode()
    if change == "missing":
        del files[patch.path]
    else:
        files[patch.path] = text + old if change == "more" else text.replace(old, b"", 1)
    with pytest.raises(WheelBuildError, match="The patch of ") as caught:
        apply_patches(files)
    assert patch.path in str(caught.value)
    assert "\n" not in str(caught.value)


def test_patches_replace_all_they_name():
    files = {path: text.encode() for path, text in source_files().items()}
    apply_patches(files)
    for patch in PATCHES:
        text = files[patch.path].decode()
        assert patch.old not in text.replace(patch.new, "")
        assert text.count(patch.new) >= patch.times


def run_tool(*args: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, str(TOOL), *args], capture_output=True, text=True)


def test_a_changed_archive_is_refused_in_one_sentence(tmp_path):
    path = write_archive(tmp_path / "changed.tar.gz", source_files())
    result = run_tool(str(path), "--out-dir", str(tmp_path / "dist"))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr == (
        f"error: {path} has SHA-256 {digest} instead of {builder.ARCHIVE_SHA256}: it is not the "
        "file this tool was written for, so delete it and download it again (see --help).\n"
    )
    assert not (tmp_path / "dist").exists()


def test_a_missing_archive_is_one_sentence(tmp_path):
    result = run_tool(str(tmp_path / "absent.tar.gz"))
    assert result.returncode == 1
    assert result.stderr == (
        f"error: Cannot read {tmp_path}/absent.tar.gz (No such file or directory): give the path "
        "of the downloaded pb1-detectron2-0.6.tar.gz (see --help).\n"
    )


def test_help_says_where_the_archive_comes_from():
    result = run_tool("--help")
    assert result.returncode == 0
    assert f"pb1-detectron2==0.6 --hash=sha256:{builder.ARCHIVE_SHA256}" in result.stdout
    assert "pip download --no-deps --no-build-isolation --require-hashes" in result.stdout


@pytest.mark.parametrize("error", (OSError("disk full"), KeyboardInterrupt()))
def test_a_failed_write_leaves_the_old_wheel_and_nothing_else(
    archive, tmp_path, monkeypatch, error
):
    out_dir = tmp_path / "dist"
    out_dir.mkdir()
    old = out_dir / builder.WHEEL_NAME
    old.write_text("the wheel of an earlier run")

    def fail(*args):
        raise error

    monkeypatch.setattr(zipfile.ZipFile, "writestr", fail)
    with pytest.raises(type(error)):
        build_wheel(archive, out_dir)
    assert list(out_dir.iterdir()) == [old]
    assert old.read_text() == "the wheel of an earlier run"
