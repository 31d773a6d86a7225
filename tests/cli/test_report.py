"""`clq report` as a user calls it, after a short training."""

import json
from pathlib import Path

import pytest

from clq.cli.main import main
from reference.browser import WIDTHS, find_browser, layout_faults
from reference.tiny import Pair, TinyData, command_line, write_pair

pytestmark = pytest.mark.usefixtures("cpu_only")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TinyData]:
    """A run with the report that it wrote by itself."""
    folder = tmp_path_factory.mktemp("trained")
    data = TinyData(
        write_pair(folder, "train", num_images=4, seed=1),
        write_pair(folder, "val", num_images=3, seed=2),
    )
    keys = {"SOLVER.MAX_ITER": 4, "TEST.REPORT": True}
    main(["train", *command_line(data, folder / "run", keys=keys)])
    return folder / "run", data


def report(capsys: pytest.CaptureFixture[str], *arguments: object) -> Path:
    """Run the command; returns the page whose path it prints last."""
    capsys.readouterr()
    main(["report", *map(str, arguments)])
    return Path(capsys.readouterr().out.splitlines()[-1])


def facts_of(page: Path) -> dict:
    assert page.name == "index.html" and page.is_file()
    return json.loads((page.parent / "report.json").read_text())


def test_a_run_is_reported_as_at_its_end(
    trained: tuple[Path, TinyData], capsys: pytest.CaptureFixture[str]
):
    run, data = trained
    page = run / "report" / "index.html"
    at_its_end, facts = page.read_text(), facts_of(page)
    assert facts["metrics"]["AP"]["value"] == pytest.approx(
        json.loads((run / "results.json").read_text())["val"]["AP"]
    )
    assert "Losses" in at_its_end and "matched anchors" in at_its_end
    assert facts["run"]["annotations"] == str(data.val.json_file)
    if find_browser():
        assert [layout_faults(page, width) for width in WIDTHS] == [{}, {}]
    page.unlink()
    assert report(capsys, run) == page
    assert page.read_text() == at_its_end and not (run / "report" / "evaluation").exists()


def test_weights_are_evaluated_first(
    trained: tuple[Path, TinyData], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run, _ = trained
    other = write_pair(tmp_path, "other", num_images=2, seed=9)
    weights, output = run / "model_final.safetensors", tmp_path / "out"
    keys = ["--opts", "DATALOADER.NUM_WORKERS", "0"]
    page = report(capsys, weights, "--val", *other, "--output", output, *keys)
    assert page == output / "index.html"
    results = json.loads((output / "evaluation" / "results.json").read_text())["val"]
    assert facts_of(page)["metrics"]["AP"]["value"] == pytest.approx(results["AP"])
    assert "Which data was it?" in page.read_text()


def test_two_runs(
    trained: tuple[Path, TinyData], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run, _ = trained
    page = report(capsys, run, run, "--output", tmp_path / "both")
    assert facts_of(page)["metrics"]["AP"]["delta"] == 0


def without_annotations(pair: Pair) -> Pair:
    content = pair.content
    del content["annotations"]
    pair.json_file.write_text(json.dumps(content))
    return pair


@pytest.mark.parametrize("second", [False, True], ids=["one", "two"])
def test_data_without_annotations_is_an_error(
    trained: tuple[Path, TinyData], tmp_path: Path, second: bool
):
    pair = without_annotations(write_pair(tmp_path, "bare", num_images=1, seed=9))
    sources = [str(trained[0])] * (2 if second else 1)
    with pytest.raises(SystemExit) as stop:
        main(["report", *sources, "--val", *map(str, pair), "--output", str(tmp_path / "out")])
    assert stop.value.code == "error: the data has no annotations, so that there is nothing to " + (
        "compare with."
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "nothing is no folder of a training run; weights need data"),
        (["."], "has no model_final.safetensors"),
    ],
)
def test_a_user_error_is_one_sentence(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["report", *arguments])
    assert message in str(stop.value.code) and list(tmp_path.iterdir()) == []
