"""Conversion by command, from checkpoints in mmdetection's style to ours."""

from pathlib import Path
from typing import Any

import convert_checkpoint
import pytest
import torch
from detectron2.structures import ImageList
from torch import nn

from clq.checkpoint import CompleteCheckpointer, load_detector, read_weights
from clq.checkpoint.read_file import read_file
from reference.mmdet_style import FAMILY, mmdet_state, random_detector, small_config
from reference.tiny import CONFIG

META = {"CLASSES": tuple("abcde"), "config": "# omitted"}
RESNEXT = {"MODEL.RESNETS.NUM_GROUPS": 4, "MODEL.RESNETS.WIDTH_PER_GROUP": 1}
DEFORMABLE = {
    **RESNEXT,
    "MODEL.RESNETS.DEFORM_ON_PER_STAGE": [False, True, True, True],
    "MODEL.RESNETS.DEFORM_MODULATED": True,
}
R18 = {
    "MODEL.RESNETS.DEPTH": 18,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 64,
    "MODEL.CLQ.NUM_CONVS": 4,
}


def run(*arguments: object) -> None:
    convert_checkpoint.main(list(map(str, arguments)))


def refusal(*arguments: object) -> str:
    with pytest.raises(SystemExit) as leaving:
        run(*arguments)
    message = leaving.value.code
    assert isinstance(message, str), "Python prints a text and leaves with code 1"
    assert message.startswith("error: ") and "\n" not in message
    return message


def save(path: Path, model: nn.Module, head: str = "clq") -> Path:
    torch.save({"meta": META, "state_dict": mmdet_state(model, head)}, path)
    return path


@torch.no_grad()
def outputs(model: nn.Module) -> list[torch.Tensor]:
    """Every tensor of the head, then the detections, of two images in one batch."""
    torch.manual_seed(0)
    images = ImageList(torch.randn(2, 3, 64, 96), [(64, 96), (50, 70)])
    features = [model.backbone(images.tensor)[name] for name in model.head_in_features]
    predictions = model.head(features)
    found = model.forward_inference(images, features, predictions)
    tensors = [level for levels in predictions if levels is not None for level in levels]
    for instances in found:
        tensors += [instances.pred_boxes.tensor, instances.scores, instances.pred_classes]
    assert sum(map(len, found)) > 0
    return tensors


@pytest.mark.parametrize(
    ("head", "keys", "suffix"),
    [
        ("clq", {}, "safetensors"),
        ("clq", {}, "pth"),
        ("gfl", {}, "safetensors"),
        ("atss", {}, "safetensors"),
        ("gfl", RESNEXT, "safetensors"),
        ("clq", DEFORMABLE, "safetensors"),
        ("atss", R18, "safetensors"),
    ],
)
def test_conversion_changes_no_output(head: str, keys: dict[str, Any], suffix: str, tmp_path: Path):
    model = random_detector(small_config({**keys, **FAMILY[head]}))
    out = tmp_path / f"out.{suffix}"
    run(save(tmp_path / "in.pth", model, head), out)
    converted, names = load_detector(out)
    assert names == list("abcde") and not converted.training
    for actual, expected in zip(outputs(converted), outputs(model), strict=True):
        assert actual.equal(expected)


def test_converting_again_changes_nothing(tmp_path: Path):
    model = random_detector(small_config())
    first, second, third = (tmp_path / name for name in ("a.safetensors", "b.pth", "c.safetensors"))
    run(save(tmp_path / "in.pth", model), first)
    run(first, second)
    run(second, third)
    content, expected = read_file(third), read_file(first)
    tensors, expected_tensors = content.pop("model"), expected.pop("model")
    assert content == expected and tensors.keys() == expected_tensors.keys()
    assert all(tensors[name].equal(value) for name, value in expected_tensors.items())


def test_what_it_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run(save(tmp_path / "in.pth", random_detector(small_config())), tmp_path / "out.pth")
    first, guess, second = capsys.readouterr().out.splitlines()
    assert first.startswith("Dropped the spare class channel: bias -12.00, weight norm ")
    assert guess == (
        "The file does not state the groups of its GroupNorm; took 8, give MODEL.CLQ.NUM_GROUPS if "
        "that is wrong."
    )
    assert second == (
        f"Wrote {tmp_path / 'out.pth'}: 5 classes, ResNet-50, 8 groups in GroupNorm, "
        "BOX_CODING distribution, QUALITY localization, ALIGNMENT True."
    )


def test_the_spare_class(tmp_path: Path):
    source = save(tmp_path / "in.pth", random_detector(small_config()))
    run(source, tmp_path / "kept.safetensors", "--keep-spare")
    assert load_detector(tmp_path / "kept.safetensors")[1] == [*"abcde", "spare"]
    content = torch.load(source, weights_only=True)
    content["state_dict"]["bbox_head.clq_cls.bias"][-1] = -5
    torch.save(content, source)
    out = tmp_path / "out.safetensors"
    assert "bias -5.00" in refusal(source, out) and not out.exists()
    run(source, out, "--drop-spare")
    assert load_detector(out)[1] == list("abcde")


def test_keys_that_tensors_do_not_show(tmp_path: Path):
    model = random_detector(small_config({"MODEL.CLQ.NUM_GROUPS": 16}))
    source = save(tmp_path / "in.pth", model)
    run(source, tmp_path / "out.pth", "MODEL.CLQ.NUM_GROUPS", 16)
    converted, _ = load_detector(tmp_path / "out.pth")
    assert all(map(torch.equal, outputs(converted), outputs(model)))
    for key in ("MODEL.CLQ.ALPHA.X", "MODEL.NO"):
        assert f"there is no key {key}" in refusal(source, tmp_path / "x.pth", key, 1)


def test_keys_may_follow_flags(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source = save(tmp_path / "in.pth", random_detector(small_config()))
    run(source, tmp_path / "out.pth", "--drop-spare", "MODEL.CLQ.NUM_GROUPS", 16)
    out = capsys.readouterr().out
    assert "16 groups in GroupNorm" in out and "does not state" not in out


def test_a_file_is_not_replaced_by_its_own_conversion(tmp_path: Path):
    source = save(tmp_path / "in.pth", random_detector(small_config()))
    before = source.read_bytes()
    (tmp_path / "link.pth").symlink_to(source)
    for target in (source, tmp_path / "link.pth"):
        assert "is the file to convert" in refusal(source, target)
    assert source.read_bytes() == before


def test_a_folder_that_can_not_be_written(tmp_path: Path):
    source = save(tmp_path / "in.pth", random_detector(small_config()))
    (tmp_path / "file").write_text("")
    for name in ("out.pth", "out.safetensors"):
        path = tmp_path / "file" / name
        assert f"{path} can't be written (" in refusal(source, path)


def test_keys_that_give_no_model(tmp_path: Path):
    source = save(tmp_path / "in.pth", random_detector(small_config()))
    message = refusal(source, tmp_path / "out.pth", "MODEL.FPN.IN_FEATURES", "['res9']")
    assert f"{source}: its configuration gives no model (" in message
    for key, value in (
        ("MODEL.BACKBONE.NAME", "nobody"),
        ("MODEL.RESNETS.DEPTH", 99),
        ("MODEL.CLQ.ALPHA", 2.0),
    ):
        assert f"{source}: {key} is {value!r}" in refusal(source, tmp_path / "out.pth", key, value)


def test_our_own_training_state(tmp_path: Path):
    """One that lacks its configuration needs a yaml, which need not know the class count."""
    model = random_detector(small_config())
    source, out = tmp_path / "model_final.pth", tmp_path / "out.safetensors"
    torch.save({"model": model.state_dict(), "iteration": 3}, source)
    assert "no configuration inside; name its yaml by --config-file" in refusal(source, out)
    yaml = tmp_path / "leaf.yaml"
    yaml.write_text(
        f'_BASE_: "{CONFIG}"\nMODEL:\n'
        "  FPN: {OUT_CHANNELS: 32}\n  CLQ: {NUM_CONVS: 2, NUM_GROUPS: 8}\n"
        "  RESNETS: {STEM_OUT_CHANNELS: 4, RES2_OUT_CHANNELS: 8, WIDTH_PER_GROUP: 2}\n"
    )
    run(source, out, "--config-file", yaml)
    converted, names = load_detector(out)
    assert names == [f"class_{k}" for k in range(5)]
    assert all(map(torch.equal, outputs(converted), outputs(model)))
    assert "does not exist" in refusal(source, out, "--config-file", tmp_path / "nowhere.yaml")


def test_what_does_not_fit_is_listed_and_nothing_written(tmp_path: Path):
    source, out = tmp_path / "in.pth", tmp_path / "out.safetensors"
    state = mmdet_state(random_detector(small_config()), "clq")
    state["bbox_head.odd.weight"] = torch.ones(1)
    del state["bbox_head.retina_iou.bias"]
    state["bbox_head.scales.0.scale"] = state.pop("bbox_head.scales.4.scale")
    torch.save({"state_dict": state}, source)
    message = refusal(source, out)
    for part in ("bbox_head.odd.weight", "bbox_head.retina_iou.bias", "bbox_head.scales.4.scale"):
        assert part in message
    assert not out.exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.pth", "nowhere.pth do not exist"),
        ("text.pth", "text.pth is not a checkpoint"),
        ("trunk.pth", "trunk.pth holds a backbone, which needs no conversion"),
    ],
)
def test_files_that_are_no_detectors(name: str, message: str, tmp_path: Path):
    (tmp_path / "text.pth").write_text("text")
    torch.save({"layer1.0.conv1.weight": torch.ones(1)}, tmp_path / "trunk.pth")
    assert message in refusal(tmp_path / name, tmp_path / "out.pth")
    assert not (tmp_path / "out.pth").exists()


def test_code_runs_for_the_flag_alone(tmp_path: Path):
    """Here a path, which is an object of its own, lies beside the weights."""
    source, out = tmp_path / "in.pth", tmp_path / "out.pth"
    state = mmdet_state(random_detector(small_config()), "clq")
    torch.save({"meta": META, "state_dict": state, "folder": Path("x")}, source)
    message = refusal(source, out)
    assert "asks for the object pathlib" in message and "--unsafe" in message
    run(source, out, "--unsafe")
    assert load_detector(out)[1] == list("abcde")


def test_another_ending_is_refused_before_anything_is_read(tmp_path: Path):
    assert "must end in .safetensors or .pth" in refusal("nowhere.pth", tmp_path / "out.onnx")


def test_what_is_written_is_read_by_train_net_too(tmp_path: Path):
    model = random_detector(small_config())
    out = tmp_path / "out.safetensors"
    run(save(tmp_path / "in.pth", model), out)
    other = random_detector(small_config(), seed=1)
    CompleteCheckpointer(other).load(str(out))
    assert all(map(torch.equal, outputs(other), outputs(model)))
    config = read_weights(out).config
    assert config is not None and config.MODEL.CLQ.CANDIDATE_RULE_TEST == "anchors"


@pytest.mark.parametrize(
    ("text", "message"),
    [("MODEL: [", "wrong.yaml is not valid yaml"), ("SEED: 3\n", "wrong.yaml is no config of CLQ")],
)
def test_a_yaml_that_does_not_serve_is_refused(text: str, message: str, tmp_path: Path):
    source = save(tmp_path / "in.pth", random_detector(small_config()))
    (tmp_path / "wrong.yaml").write_text(text)
    arguments = ("--config-file", tmp_path / "wrong.yaml")
    assert message in refusal(source, tmp_path / "out.pth", *arguments)
