"""The committed rows of the accuracy study belong together, and to the members as they are."""

import numpy as np
import pytest

from benchmarks.accuracy.__main__ import RESULTS
from benchmarks.accuracy.cells import SEEDS, member_keys
from benchmarks.accuracy.matches_file import load_matches
from benchmarks.accuracy.rows import FIELDS, cell_of, identity, matches_file
from benchmarks.common import ROOT, read_rows
from clq.evaluation.report.average_precision import average_precision

ROWS = read_rows(ROOT / RESULTS)


def test_the_blood_cells_have_every_seed_of_the_family_with_one_hash():
    rows = [row for row in ROWS if row["data"] == "blood_cells"]
    assert len({row["hash"] for row in rows}) == 1
    members = ("atss", "atss_clq", "atss_clq_align", "gfl", "clq")  # those of the first protocol
    assert {(row["member"], int(row["seed"])) for row in rows} >= {
        (member, seed) for member in members for seed in SEEDS
    }


def test_a_cell_has_one_row_with_all_columns():
    assert len(set(map(identity, ROWS))) == len(ROWS)
    assert all(tuple(row) == FIELDS for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(cell_of(row)))
def test_a_row_is_of_the_member_as_its_config_is_now(row: dict[str, str]):
    assert row["keys"] == " ".join(map(str, member_keys(row["member"])))
    assert "dirty" not in row["commit"] and row["commit"] != "unknown"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(cell_of(row)))
def test_the_matches_of_a_row_give_its_numbers(row: dict[str, str]):
    matches = load_matches(matches_file(ROOT / RESULTS, row))
    ap = average_precision(matches[matches.score > 0.05])
    by_metric = {"AP": ap.mean(), "AP50": ap[0].mean(), "AP75": ap[5].mean()}
    for metric, value in by_metric.items():
        assert value == pytest.approx(float(row[metric]), abs=0.05), metric
    assert np.isfinite(average_precision(matches)).all()
    assert float(row["AP_by_true_IoU"]) > float(row["AP_by_score"])


def test_no_matches_lie_there_without_a_row():
    found = set((ROOT / RESULTS).with_suffix("").rglob("*.npz"))
    assert found == {matches_file(ROOT / RESULTS, row) for row in ROWS}
