"""The check of a COCO json: what is a error, what is kept, and that no content breaks it."""

import contextlib
import copy
import gc
import io
import itertools
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from clq.config import get_clq_cfg
from clq.data import CocoFiles, register_coco_json
from clq.data.coco import dialect
from clq.data.coco.validate import check_content, load_and_validate
from clq.data_report import report_data
from clq.data_report.anchor_coverage import DetectorScale
from clq.data_report.report_text import as_json, as_text
from reference.tiny import CONFIG

CONTENT: dict[str, Any] = {
    "images": [
        {"id": 7, "file_name": "a.png", "width": 60, "height": 40},
        {"id": 3, "file_name": "b.png", "width": 50, "height": 40},
    ],
    "annotations": [
        {
            "id": 1,
            "image_id": 7,
            "category_id": 90,
            "bbox": [1, 2, 10, 20],
            "area": 200,
            "iscrowd": 0,
            "segmentation": [[1, 2, 11, 2, 11, 22]],
        },
        {"id": 2, "image_id": 3, "category_id": 4, "bbox": [0.5, 0, 4, 4.5], "iscrowd": 1},
        {"id": 5, "image_id": 7, "category_id": 4, "bbox": [5, 5, 30.5, 30]},
    ],
    "categories": [{"id": 90, "name": "zebra"}, {"id": 4, "name": "yak"}],
}


@pytest.fixture
def content() -> dict[str, Any]:
    return copy.deepcopy(CONTENT)


def counts(content: Any) -> dict[str, int]:
    """Number of errors of each kind."""
    errors = check_content(content).errors
    assert all(error.is_error for error in errors)
    assert len({error.kind for error in errors}) == len(errors)
    return {error.kind: error.count for error in errors}


def test_columns(content: dict[str, Any]):
    table = check_content(content)
    assert table.errors == []
    assert (table.category_ids, table.class_names) == ([4, 90], ["yak", "zebra"])
    assert table.image_ids.tolist() == [7, 3] and table.file_names == ["a.png", "b.png"]
    assert table.sizes.tolist() == [[60, 40], [50, 40]]
    assert table.annotation_ids.tolist() == [1, 2, 5]
    assert table.image_idxs.tolist() == [0, 1, 0] and table.classes.tolist() == [1, 0, 0]
    assert table.boxes.tolist() == [[1, 2, 10, 20], [0.5, 0, 4, 4.5], [5, 5, 30.5, 30]]
    assert table.is_crowd.tolist() == [False, True, False]


def test_every_fault_is_counted_and_the_rest_kept(content: dict[str, Any]):
    first, second, third = content["annotations"]
    content["annotations"] += [
        {**first, "id": 10, "bbox": [1, 2, float("nan"), 4]},
        {**first, "id": 11, "bbox": [1, 2, 3]},
        {**first, "id": 12, "image_id": 8},
        {**first, "id": 13, "category_id": 8},
        {**first, "id": 14, "ignore": 1},
        {**first, "id": 15, "iscrowd": None},
        {**first, "id": 17, "area": "12"},
        {**first, "id": "19"},
        {**first, "id": 5},
    ]
    assert counts(content) == {
        "bad_annotation_id": 1,
        "unknown_image_id": 1,
        "unknown_category_id": 1,
        "bad_box": 2,
        "bad_iscrowd": 1,
        "bad_area": 1,
        "marked_ignore": 1,
        "repeated_annotation_id": 1,
    }
    assert check_content(content).annotation_ids.tolist() == [1, 2, 5]


@pytest.mark.parametrize("value", [None, "", [], False, 0.0])
def test_ignore_that_detectron2_takes_is_no_fault_and_any_other_is(
    content: dict[str, Any], value: Any
):
    content["annotations"][0]["ignore"] = value
    assert counts(content) == ({} if value == 0 else {"marked_ignore": 1})


def test_images_and_categories(content: dict[str, Any]):
    images, categories = content["images"], content["categories"]
    images += [{**images[0], "id": 3}, {**images[0], "id": 5, "width": 0}]
    categories += [{"id": -1, "name": "x"}, {"id": 4, "name": "again"}, {"id": 1, "name": "ant"}]
    assert counts(content) == {
        "bad_category": 1,
        "repeated_category_id": 1,
        "bad_image": 1,
        "repeated_image_id": 1,
    }
    table = check_content(content)
    assert table.class_names == ["ant", "yak", "zebra"]  # of a repeated id, the first
    assert table.file_names == ["a.png", "b.png"]


def test_references_to_what_was_left_out_are_no_faults_of_their_own(content: dict[str, Any]):
    del content["images"][0]["width"]
    content["categories"][0]["name"] = None
    assert counts(content) == {"bad_category": 1, "bad_image": 1}
    assert len(check_content(content).boxes) == 1
    assert counts({**CONTENT, "images": []}) == {"no_image": 1}
    assert counts({**CONTENT, "categories": []}) == {"no_category": 1}


def test_a_repeated_id_hides_no_unknown_one(content: dict[str, Any]):
    content["images"].append(content["images"][0])
    content["annotations"][0]["image_id"] = 8
    assert counts(content) == {"repeated_image_id": 1, "unknown_image_id": 1}


# ------------------------------------------------------------------------------------------ files


def kind_of_file(path: Path) -> str:
    (error,) = load_and_validate(path).errors
    assert str(error.examples[0]).isprintable()
    return error.kind


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "bad_json"),
        (b"{", "bad_json"),
        (b"\xff\xfe{\x00}\x00", "not_coco"),  # UTF-16
        (b"\xef\xbb\xbf{}", "not_coco"),  # a byte order mark
        (b"[" * 100_000, "bad_json"),
        (b'{"a":' * 100_000, "bad_json"),
        (b"[" * 500 + b"]" * 500, "not_coco"),
        (b"1" * 5000, "bad_json"),
        (b"3", "not_coco"),
        (b'{"images": {}, "annotations": [], "categories": []}', "not_coco"),
    ],
    ids=range(10),
)
def test_files_that_are_no_coco_json(content: bytes, kind: str, tmp_path: Path):
    path = tmp_path / "data.json"
    path.write_bytes(content)
    assert kind_of_file(path) == kind
    assert gc.isenabled()


def test_files_that_are_not_there(tmp_path: Path):
    assert kind_of_file(tmp_path / "none.json") == "missing_json"
    with pytest.raises(ValueError, match="nothing names the classes of"):
        load_and_validate(tmp_path)
    assert kind_of_file(Path("a\0b")) == "missing_json"
    assert kind_of_file(Path("x" * 10_000)) == "missing_json"


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "data.json"
    path.write_text("{}")
    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert kind_of_file(path) == "bad_json"


def test_a_repeated_key_of_an_entry_is_read_as_detectron2_reads_it(tmp_path: Path):
    path = tmp_path / "data.json"
    path.write_text(json.dumps(CONTENT).replace('"id": 90,', '"id": 1, "id": 90,'))
    assert 90 in load_and_validate(path).category_ids


def test_a_file_is_parsed_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "data.json"
    path.write_text(json.dumps(CONTENT))
    calls = Counter[str]()
    parse = json.loads
    monkeypatch.setattr(dialect.json, "loads", lambda text, **_: calls.update(n=1) or parse(text))
    assert load_and_validate(path) is load_and_validate(str(path))
    assert calls["n"] == 1
    path.write_text(json.dumps({**CONTENT, "annotations": []}))
    assert len(load_and_validate(path).boxes) == 0 and calls["n"] == 2


# ------------------------------------------------------------------------------------ any content

TEXTS = st.sampled_from(
    ["", "a.png", "b.png", "/", "..", "../a.png", ".", "a\nb", "\x00", "\ud800", "é", "x" * 5000]
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 8),
    st.sampled_from([90, 10**400, -(10**400), 2**31, 2**62, 2**63, 2**64, -(2**63)]),
    st.sampled_from([0.0, -0.0, 1.0, 3.5, 1e308, -1e308, 1e-320]),
    st.floats(),
    TEXTS,
    st.text(max_size=5),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
REQUIRED = "id image_id category_id bbox file_name width height name".split()
OPTIONAL = "iscrowd area segmentation keypoints ignore license".split()
NUMBERS = st.sampled_from([0, 1, 2, 6, 0.5, -3, 100.25, 1e18, 2**61, -(2**61)])
POLYGON = st.lists(NUMBERS, max_size=8)
OPTIONAL_VALUES = st.one_of(
    VALUES,
    NUMBERS,
    POLYGON,
    st.lists(POLYGON, max_size=3),
    st.fixed_dictionaries({"size": POLYGON, "counts": POLYGON | TEXTS}),
)


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """A valid json in which up to four things were changed."""
    content = copy.deepcopy(CONTENT)
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 4]))):
        entries = content[draw(st.sampled_from(["images", "annotations", "categories"]))]
        how = draw(st.integers(0, 11))
        entry = draw(st.sampled_from(entries)) if entries else {}
        if how < 5 or not isinstance(entry, dict):
            objects = [entry for entry in content["annotations"] if isinstance(entry, dict)]
            entry = draw(st.sampled_from(objects or [{}]))
            entry[draw(st.sampled_from(OPTIONAL))] = draw(OPTIONAL_VALUES)
        elif how < 7 and isinstance(entry.get("bbox"), list) and entry["bbox"]:
            entry["bbox"][draw(st.integers(0, len(entry["bbox"]) - 1))] = draw(NUMBERS | LEAVES)
        elif how < 9:
            entry[draw(st.sampled_from(REQUIRED))] = draw(VALUES)
        elif how == 9:
            entry.pop(draw(st.sampled_from(sorted(entry) or ["id"])), None)
        elif how == 10:
            entries.append(draw(st.sampled_from([entry, {**entry, "id": 60}]) | VALUES))
        else:
            entries.remove(entry)
    if not draw(st.integers(0, 30)):
        content[draw(st.sampled_from(["images", "annotations", "categories"]))] = draw(VALUES)
    return content


@pytest.fixture(scope="module")
def cfg() -> CfgNode:
    cfg = get_clq_cfg()
    cfg.merge_from_file(str(CONFIG))
    cfg.INPUT.MIN_SIZE_TEST = 64
    return cfg


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> CocoFiles:
    folder = tmp_path_factory.mktemp("fuzz")
    Image.new("RGB", (60, 40)).save(folder / "a.png")
    Image.new("RGB", (50, 40)).save(folder / "b.png")
    return CocoFiles(folder / "data", folder)


def check_any(text: str, cfg: CfgNode, files: CocoFiles, number: int) -> None:
    """Report on a json, register it if it can be, and load what was registered."""
    files = files._replace(json_file=files.json_file.with_name(f"{number}.json"))
    files.json_file.write_text(text)
    report = report_data(files, cfg, SCALE[0])
    assert as_text(report).encode()
    assert json.loads(json.dumps(as_json([report]), allow_nan=False))["faults"] >= 0
    for finding in report.findings:
        assert "\n" not in finding.sentence and finding.count >= len(finding.examples) > 0
        assert all(str(example).isprintable() for example in finding.examples)

    refusable = load_and_validate(files.json_file).errors
    try:
        register_coco_json("fuzz", *files)
    except ValueError as error:
        assert str(error).isprintable()
        assert refusable or "lists first" in str(error)
    else:
        assert not refusable
        with contextlib.redirect_stdout(io.StringIO()):
            records = DatasetCatalog.get("fuzz")
        assert len(records) == report.num_images
    finally:
        os.remove(files.json_file)


SCALE: list[DetectorScale] = []
FILE_NUMBERS = itertools.count()
FUZZ = settings(
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module", autouse=True)
def scale(cfg: CfgNode) -> None:
    SCALE[:] = [DetectorScale.from_config(cfg)]


@settings(FUZZ, max_examples=1000)
@given(content=mutated())
def test_no_mutation_breaks_the_report(content: Any, cfg: CfgNode, files: CocoFiles):
    check_any(json.dumps(content), cfg, files, next(FILE_NUMBERS))


@settings(FUZZ, max_examples=200)
@given(content=VALUES)
def test_no_json_breaks_the_report(content: Any, cfg: CfgNode, files: CocoFiles):
    check_any(json.dumps(content), cfg, files, next(FILE_NUMBERS))


@settings(FUZZ, max_examples=100)
@given(end=st.integers(0, 600), start=st.integers(0, 3))
def test_no_piece_of_a_file_breaks_the_report(start: int, end: int, cfg: CfgNode, files: CocoFiles):
    check_any(json.dumps(CONTENT)[start:end], cfg, files, next(FILE_NUMBERS))


def test_the_mutations_reach_most_kinds_of_faults():
    kinds = Counter[str]()

    @settings(FUZZ, max_examples=500)
    @given(content=mutated())
    def count(content: Any) -> None:
        errors = check_content(json.loads(json.dumps(content))).errors
        kinds.update(error.kind for error in errors)
        kinds["usable"] += not errors

    count()
    assert kinds["usable"] > 50
    expected = "bad_category bad_image bad_box bad_area unknown_image_id not_coco".split()
    assert [kind for kind in expected if kinds[kind] < 10] == []
