"""Findings in one line."""

import numpy as np
import pytest

from clq.data.coco.findings import (
    Example,
    Finding,
    add_hint,
    describe_errors,
    make_findings,
    quote_unprintable,
    short_repr,
)

BOX = Example("annotation 3", "has no box")
FILE = Example("", "lists no image")


def test_a_sentence_has_count_share_and_what_follows():
    finding = Finding("small", "small objects", False, 3, (BOX,))
    assert finding.sentence == "small objects: 3"
    finding = Finding(
        "small", "small objects", False, 3, (BOX,), total=400, consequence="hard to find"
    )
    assert finding.sentence == "small objects: 3 of 400 (0.8%); hard to find"


def test_nothing_is_found_in_no_rows():
    assert make_findings("kind", "things", np.zeros(0, dtype=int), lambda row: BOX) == []


def test_five_examples_are_kept():
    (finding,) = make_findings(
        "kind", "things", range(7), lambda row: Example(f"row {row}", "is odd")
    )
    assert finding.is_error and finding.count == 7
    assert [example.subject for example in finding.examples] == [f"row {k}" for k in range(5)]


def test_one_fault_is_told_with_its_file():
    one = make_findings("kind", "things", [0], lambda row: BOX)
    assert describe_errors(one, "a.json") == "annotation 3 in a.json has no box"
    one = make_findings("kind", "things", [0], lambda row: FILE)
    assert describe_errors(one, "a.json") == "annotation file a.json lists no image"


def test_several_faults_are_counted_and_the_first_five_told():
    errors = [
        *make_findings("no_image", "files", [0], lambda row: FILE),
        *make_findings("bad", "things", range(3), lambda row: Example(f"row {row}", "is odd")),
    ]
    expected = "annotation file a.json has 4 errors: it lists no image; row 0 is odd; row 1 is odd"
    assert describe_errors(errors, "a.json") == f"{expected}; row 2 is odd"
    errors += make_findings(
        "worse", "others", range(9), lambda row: Example(f"entry {row}", "is worse")
    )
    text = describe_errors(errors, "a.json")
    assert text.startswith("annotation file a.json has 13 errors: it lists no image; ")
    assert text.endswith("; entry 0 is worse; and more")


def test_the_advised_command_can_be_pasted():
    assert add_hint("bad", "a.json", "my images") == (
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
    assert short_repr(value) == expected


def test_an_integer_of_more_digits_than_python_writes():
    assert (short_repr(10**5000), short_repr([10**5000])) == ("of type int", "of type list")


def test_long_and_deep_values_are_cut():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    assert short_repr(deep) == "[[[[...]]]]"
    assert len(short_repr(["x" * 1000] * 1000)) < 1000
    assert len(short_repr({str(k): k for k in range(1000)})) < 1000


def test_names_are_quoted_only_where_they_must_be():
    assert quote_unprintable("a b é.png") == "a b é.png"
    assert quote_unprintable("") == "''"
    assert quote_unprintable("a\nb.png") == r"'a\nb.png'"
    assert quote_unprintable("\ud800.png") == r"'\ud800.png'"
    assert len(quote_unprintable("x" * 10_000)) < 200
