"""How findings are told in one line."""

import numpy as np
import pytest

from clq.data.coco.findings import Example, Finding, advise, describe_faults, find, plain, shown

BOX = Example("annotation 3", "has no box")
FILE = Example("", "lists no image")


def test_a_sentence_has_count_share_and_what_follows():
    finding = Finding("small", "small objects", False, 3, (BOX,))
    assert finding.sentence == "small objects: 3"
    finding = Finding("small", "small objects", False, 3, (BOX,), total=400, then="hard to find")
    assert finding.sentence == "small objects: 3 of 400 (0.8%); hard to find"


def test_nothing_is_found_in_no_rows():
    assert find("kind", "things", np.zeros(0, dtype=int), lambda row: BOX) == []


def test_five_examples_are_kept():
    (finding,) = find("kind", "things", range(7), lambda row: Example(f"row {row}", "is odd"))
    assert finding.is_fault and finding.count == 7
    assert [example.subject for example in finding.examples] == [f"row {k}" for k in range(5)]


def test_one_fault_is_told_with_its_file():
    one = find("kind", "things", [0], lambda row: BOX)
    assert describe_faults(one, "a.json") == "annotation 3 in a.json has no box"
    one = find("kind", "things", [0], lambda row: FILE)
    assert describe_faults(one, "a.json") == "annotation file a.json lists no image"


def test_several_faults_are_counted_and_the_first_five_told():
    faults = [
        *find("no_image", "files", [0], lambda row: FILE),
        *find("bad", "things", range(3), lambda row: Example(f"row {row}", "is odd")),
    ]
    expected = "annotation file a.json has 4 faults: it lists no image; row 0 is odd; row 1 is odd"
    assert describe_faults(faults, "a.json") == f"{expected}; row 2 is odd"
    faults += find("worse", "others", range(9), lambda row: Example(f"entry {row}", "is worse"))
    text = describe_faults(faults, "a.json")
    assert text.startswith("annotation file a.json has 13 faults: it lists no image; ")
    assert text.endswith("; entry 0 is worse; and more")


def test_the_advised_command_can_be_pasted():
    assert advise("bad", "a.json", "my images") == (
        "bad; `python tools/check_data.py a.json 'my images'` shows all"
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([1, 2.5, "x", None], "[1, 2.5, 'x', None]"),
        ("a\nb", r"'a\nb'"),
        ("\ud800", r"'\ud800'"),
        (10**9, "1000000000"),
        (int("1" * 4000), "1" * 38 + "..." + "1" * 39),
    ],
    ids=["list", "lines", "surrogate", "integer", "long"],
)
def test_any_value_is_shown_in_one_line(value: object, expected: str):
    assert shown(value) == expected


def test_an_integer_of_more_digits_than_python_writes():
    assert (shown(10**5000), shown([10**5000])) == ("of type int", "of type list")


def test_long_and_deep_values_are_cut():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    assert shown(deep) == "[[[[...]]]]"
    assert len(shown(["x" * 1000] * 1000)) < 1000
    assert len(shown({str(k): k for k in range(1000)})) < 1000


def test_names_are_quoted_only_where_they_must_be():
    assert plain("a b é.png") == "a b é.png"
    assert plain("") == "''"
    assert plain("a\nb.png") == r"'a\nb.png'"
    assert plain("\ud800.png") == r"'\ud800.png'"
    assert len(plain("x" * 10_000)) < 200
