"""The comparison of fast inference: what it evaluates, and when it fails."""

from pathlib import Path

import pytest

import clq
from benchmarks import fast_inference


@pytest.mark.parametrize(("fast_ap", "code"), [(9.75, 0), (10.25, 0), (9.6, 1), (10.4, 1)])
def test_the_exit_code_tells_of_a_larger_difference(monkeypatch, capsys, fast_ap, code):
    found = {False: {"test": 10.0}, True: {"test": fast_ap}}
    monkeypatch.setattr(fast_inference, "evaluate", lambda *_, fast: found[fast])
    assert fast_inference.main([]) == code
    assert f"{fast_ap - 10:.2f}" in capsys.readouterr().out


def test_only_the_one_key_differs(monkeypatch, tmp_path: Path):
    """Both evaluations are of the same weights, on CPU."""
    seen = []

    def evaluated(weights, *, config, output_dir, opts):
        seen.append({"weights": weights, "config": config, **opts})
        Path(output_dir, "results.json").write_text('{"test": {"AP": 1.5}}')

    monkeypatch.setattr(clq, "evaluate", evaluated, raising=False)
    for fast in (False, True):
        found = fast_inference.evaluate(fast_inference.CONFIG, tmp_path / "x.pth", fast=fast)
        assert found == {"test": 1.5}
        assert seen[-1].pop("MODEL.FAST_INFERENCE") is fast
    assert seen[0] == seen[1] and seen[0]["MODEL.DEVICE"] == "cpu"
