"""The tool from its command line to its files."""

import json
from pathlib import Path

import pytest

import predict
from reference.forks import ForkedProgram
from reference.prediction import write_checkpoint, write_image, write_video
from reference.tiny import ROOT


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("weights") / "model.safetensors")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of an image and a video, whose names are not plain."""
    folder = tmp_path / "my phötos"
    write_image(folder / "an image.png")
    write_video(folder / "clip.avi", num_frames=2)
    return folder


def test_from_a_checkpoint_and_a_folder_alone(weights: Path, photos: Path, tmp_path: Path):
    output = tmp_path / "out put"
    arguments = ["--weights", weights, photos, "--output", output]
    done = ForkedProgram(ROOT / "tools" / "predict.py", *arguments).wait()
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    count = len(json.loads((output / "predictions.json").read_text())["annotations"])
    assert done.stdout.splitlines()[-1] == (
        f"1 image, 1 video of 2 frames, {count} detections; pictures in {output}/, "
        f"boxes in {output}/predictions.json"
    )
    names = sorted(path.name for path in output.iterdir())
    assert names == ["an image.png", "clip.avi.mp4", "predictions.json"]


def test_all_options(weights: Path, photos: Path, tmp_path: Path, monkeypatch, capsys):
    (photos / "text.jpg").write_text("text")
    monkeypatch.chdir(tmp_path)
    options = ["--skip-unreadable", "--no-pictures", "--device", "cpu", "--score-threshold", "0.5"]
    predict.main(["--weights", str(weights), *options, photos.name])
    skipped, line = capsys.readouterr().out.splitlines()
    assert skipped == f"skipped: {photos.name}/text.jpg can't be read (it is no image)"
    assert line.startswith("1 image, 1 video of 2 frames, 1 skipped, ")
    assert [path.name for path in Path("predictions").iterdir()] == ["predictions.json"]


def test_fast_finds_what_the_fast_detector_finds(weights: Path, photos: Path, tmp_path: Path):
    scores = {}
    for options in ([], ["--fast"]):
        output = tmp_path / f"out{len(options)}"
        predict.main(["--weights", str(weights), *options, str(photos), "--output", str(output)])
        found = json.loads((output / "predictions.json").read_text())["annotations"]
        scores[bool(options)] = [annotation["score"] for annotation in found]
    assert max(scores[True]) == pytest.approx(max(scores[False]), rel=0.05)
    assert scores[True] != scores[False], "norms as part of convolutions round otherwise"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no/such.png"], r"no/such\.png does not exist\."),
        (["--score-threshold", "2", "."], r"--score-threshold is 2\.0; it must lie in \[0, 1\]\."),
        (["--device", "gpu", "my phötos"], r"--device is 'gpu', which can't be used here"),
        (["--output", "file/out", "my phötos"], r"the folder file/out can't be written"),
        (["--output", "my phötos", "my phötos"], r"the prediction would replace the input"),
    ],
)
def test_a_mistake_is_one_sentence(
    arguments: list[str], message: str, weights: Path, photos: Path, monkeypatch, capsys
):
    monkeypatch.chdir(photos.parent)
    Path("file").touch()
    with pytest.raises(SystemExit, match=rf"^error: {message}") as ended:
        predict.main(["--weights", str(weights), *arguments])
    assert "\n" not in str(ended.value.code) and capsys.readouterr().out == ""
