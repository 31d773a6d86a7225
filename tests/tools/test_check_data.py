"""The command line of the data report."""

import json
import shutil
from pathlib import Path

import pytest

import check_data
from reference.forks import ForkedProgram
from reference.tiny import CONFIG, ROOT, Pair, TinyData


@pytest.fixture
def broken(tiny_data: TinyData, tmp_path: Path) -> Pair:
    """The training data without one of its images."""
    folder = tmp_path / "images"
    shutil.copytree(tiny_data.train.images, folder)
    (folder / "0.png").unlink()
    return Pair(tiny_data.train.json_file, folder)


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        check_data.main(list(map(str, arguments)))
    assert isinstance(ended.value.code, int)
    return ended.value.code, capsys.readouterr().out


def test_sound_data(tiny_data: TinyData, capsys: pytest.CaptureFixture[str]):
    code, text = run(capsys, *tiny_data.train, "--val", *tiny_data.val)
    assert code == 0 and "ERROR" not in text
    train, val = text.split("\n\n" + str(tiny_data.val.json_file))
    assert train.startswith(
        f"{tiny_data.train.json_file} with {tiny_data.train.images}\n"
        "images: 4, objects: 9, classes: 3 (images read: 4, matched by ATSS: 3)\n"
    )
    assert "images: 3, objects: 6, classes: 3" in val
    assert "images without objects: 1 of 4 (25.0%); train as negatives" in train


def test_faults_end_with_code_1(broken: Pair, capsys: pytest.CaptureFixture[str]):
    code, text = run(capsys, *broken)
    assert code == 1
    lines = text.splitlines()
    assert lines[2:4] == [
        "ERROR [missing_image] images that are not in the folder: 1",
        "      - image 0.png does not exist",
    ]


def test_evaluation_data_may_be_at_fault(
    tiny_data: TinyData, broken: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    content = tiny_data.val.content
    content["categories"].append({"id": 4, "name": "line"})
    other = tmp_path / "other.json"
    other.write_text(json.dumps(content))
    val = ("--val", other, tiny_data.val.images)
    code, text = run(capsys, *tiny_data.train, *val)
    assert code == 1 and "ERROR [class_mismatch]" in text
    # Faulty training data may lack the classes that it should have.
    broken.json_file.with_name("none.json").unlink(missing_ok=True)
    code, text = run(capsys, broken.json_file.with_name("none.json"), broken.images, *val)
    assert code == 1 and "class_mismatch" not in text
    assert "it does not exist" in text


def test_json_is_all_that_is_printed(broken: Pair, tiny_data: TinyData):
    done = ForkedProgram(ROOT / "tools" / "check_data.py", *broken, "--json").wait()
    assert done.returncode == 1, done.stderr
    content = json.loads(done.stdout)
    assert content["faults"] == 1 and len(content["data"]) == 1
    first = content["data"][0]["findings"][0]
    assert (first["kind"], first["examples"]) == ("missing_image", ["image 0.png does not exist"])


def test_only_so_many_images_are_read(tiny_data: TinyData, capsys: pytest.CaptureFixture[str]):
    _, text = run(capsys, *tiny_data.train, "--images", "2")
    assert "(images read: 2, matched by ATSS: 1)" in text


def test_the_config_sets_the_scale(
    tiny_data: TinyData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    config = tmp_path / "mine.yaml"
    config.write_text(f'_BASE_: "{CONFIG}"\nINPUT:\n  MIN_SIZE_TEST: 16\n')
    assert "[small_objects]" not in run(capsys, *tiny_data.train)[1]
    assert "[small_objects]" in run(capsys, *tiny_data.train, "--config-file", config)[1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        ("MODEL: [", "wrong.yaml is not valid yaml: "),
        ("MODEL:\n  CLQ:\n    NUM_CLASES: 1\n", "did you mean MODEL.CLQ.NUM_CLASSES.$"),
        ('VERSION: 2\nMODEL:\n  BACKBONE:\n    NAME: "no_such"\n', "no_such"),
    ],
)
def test_a_wrong_config_is_told_in_one_sentence(
    content: str | None, message: str, tiny_data: TinyData, tmp_path: Path
):
    config = tmp_path / "wrong.yaml"
    if content is not None:
        config.write_text(content)
    with pytest.raises(SystemExit, match=message) as ended:
        check_data.main([*map(str, tiny_data.train), "--config-file", str(config)])
    assert str(config) in str(ended.value) and "\n" not in str(ended.value)


@pytest.mark.parametrize("number", ["-1", "many"])
def test_a_wrong_number_of_images(
    number: str, tiny_data: TinyData, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit):
        check_data.main([*map(str, tiny_data.train), "--images", number])
    assert f"--images: must be a number of images, not '{number}'" in capsys.readouterr().err
