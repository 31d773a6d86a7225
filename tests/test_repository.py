"""Facts about the files themselves that were promised."""

import ast
import configparser
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from reference.tiny import ROOT

PACKAGE = ROOT / "projects" / "CLQ" / "clq"
TESTS = ROOT / "tests"


def repository_files() -> list[Path]:
    """Tracked files, and new ones that git does not ignore; of a copy without git, the sources."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode == 0:
        paths = [ROOT / name for name in listed.stdout.split("\0") if name]
        return [path for path in paths if path.is_file()]
    folders = ("projects", "tools", "benchmarks", "configs", "tests")
    found = [path for folder in folders for path in (ROOT / folder).rglob("*.*")]
    return [ROOT / "train_net.py", *(path for path in found if "__pycache__" not in path.parts)]


FILES = repository_files()
SOURCES = [path for path in FILES if path.suffix == ".py" and TESTS not in path.parents]
MODULES = [path for path in SOURCES if PACKAGE in path.parents]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported_modules(path: Path) -> Iterator[str]:
    """All modules that a file may import: both of "a.b" and "a.b.c" for "from a.b import c"."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_files_are_found():
    assert len(MODULES) > 20 and {ROOT / "train_net.py", PACKAGE / "__init__.py"} <= set(SOURCES)


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_modules_that_need_pkg_resources_are_not_imported(path: Path):
    refused = ("detectron2.model_zoo", "detectron2.utils.testing", "pkg_resources")
    assert not [name for name in imported_modules(path) if name.startswith(refused)]


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_files_and_functions_are_short(path: Path):
    text = path.read_text()
    assert len(text.splitlines()) <= 350
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno + 1 <= 60, f"{node.name} is too long"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_devices_are_not_hard_coded(path: Path):
    assert not re.search(r"\.cuda\(", path.read_text())


# Folders that only some machines have; a path that begins elsewhere, as in a URL, is none.
PRIVATE = ("home", "root", "Users", "work", "workspace", "tmp", "mnt", "opt", "usr", "var", "srv")
MACHINE_PATH = re.compile(rf"(?<![\w.~$}}/-])/(?:{'|'.join(PRIVATE)})/\w")


def test_no_file_names_a_place_on_one_machine():
    found = []
    for path in FILES:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:  # a picture or an array
            continue
        lines = lines[1:] if lines and lines[0].startswith("#!") else lines
        found += [f"{name_of(path)}: {line}" for line in lines if MACHINE_PATH.search(line)]
    assert found == []


@pytest.mark.parametrize("before", ["", '"', "at ", "FOLDER="])
def test_such_a_place_is_recognised(before: str):
    assert MACHINE_PATH.search(before + "/".join(("", "home", "someone", "data")))


@pytest.mark.parametrize("before", ["https://a.org", "..", "~", "$ROOT", "${ROOT}"])
def test_other_paths_are_allowed(before: str):
    assert not MACHINE_PATH.search(before + "/".join(("", "home", "someone", "data")))


def test_test_folders_are_those_of_the_package():
    packages = {path.parent.name for path in MODULES if path.parent != PACKAGE}
    folders = {path.parent.name for path in FILES if path.name.startswith("test_")} - {"tests"}
    assert packages <= folders and folders <= packages | {
        "tools",
        "benchmarks",
        "golden",
        "cuda",
        "fuzz",
    }


def test_golden_tests_are_there_and_none_is_skipped():
    files = [path for path in FILES if path.match("tests/**/test_golden_*.py")]
    assert len(files) >= 5
    for path in files:
        assert not re.search(r"skip|xfail", path.read_text()), name_of(path)
        tests = re.findall(r"^def (test_\w+)", path.read_text(), flags=re.MULTILINE)
        assert tests, name_of(path)


def test_no_weights_and_nothing_large_is_committed():
    weights = [p for p in FILES if p.suffix in (".pth", ".pt", ".pkl", ".onnx", ".safetensors")]
    assert {str(path.relative_to(TESTS)) for path in weights} <= {
        "golden/mmdet_style_checkpoint_r50_base8.pth",
        "checkpoint/fixtures/model_0000399.pth",
        "checkpoint/fixtures/model_0000399.safetensors",
    }
    other = [path for path in FILES if path.parent != TESTS / "golden"]
    assert [name_of(path) for path in other if path.stat().st_size > 2_000_000] == []


def test_the_wheel_carries_every_file_of_the_package():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    patterns = config["options.package_data"]["clq"].split(", ")
    carried = {path for pattern in patterns for path in PACKAGE.glob(pattern)}
    others = {path for path in FILES if PACKAGE in path.parents and path.suffix != ".py"}
    assert others and others <= carried
