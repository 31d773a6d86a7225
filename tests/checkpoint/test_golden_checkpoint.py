"""The reference's checkpoint, through the converter and ordinary inference, against its outputs."""

import re
import statistics
from pathlib import Path

import convert_checkpoint
import pytest
import torch
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor, nn

from clq.checkpoint import load_detector
from clq.modeling.joint_score import joint_scores
from reference.golden import (
    GOLDEN_DIR,
    assert_same_detections,
    golden,
    golden_names,
    heads_with,
    levels,
)
from reference.mmdet_style import mmdet_state, random_detector, small_config

PAIRS = [
    (path, "checkpoint_expected_" + path.stem.removeprefix("mmdet_style_checkpoint_"))
    for path in sorted(GOLDEN_DIR.glob("mmdet_style_checkpoint_*.pth"))
]
RELATIVE = 1e-4
OF_DETECTIONS = {"box_atol": 0.01, "score_atol": 1e-4}


@pytest.fixture(scope="module", params=PAIRS, ids=lambda pair: pair[0].stem)
def converted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[nn.Module, dict[str, Tensor]]:
    """The converted detector, and what the reference computed."""
    checkpoint, expected = request.param
    path = tmp_path_factory.mktemp("converted") / "out.safetensors"
    convert_checkpoint.main([str(checkpoint), str(path)])
    return load_detector(path)[0], golden(expected)


@torch.no_grad()
def detect(model: nn.Module, arrays: dict[str, Tensor], run: str) -> Instances:
    size = tuple(arrays[f"{run}_img_shape"].tolist())
    images = ImageList(arrays["image"], [size])
    features = [model.backbone(images.tensor)[name] for name in model.head_in_features]
    return model.forward_inference(images, features, model.head(features))[0]


def stored(arrays: dict[str, Tensor], run: str) -> list[Tensor]:
    """Boxes, scores and labels of one of the stored runs."""
    return [arrays[f"{run}_{part}"] for part in ("boxes", "scores", "labels")]


def assert_close(actual: Tensor, expected: Tensor, name: str) -> None:
    assert actual.shape == expected.shape, name
    assert (actual - expected).abs().max() <= RELATIVE * expected.abs().max(), name


def test_the_reference_checkpoint_is_there():
    assert PAIRS and set(golden_names("checkpoint_expected_*")) == {name for _, name in PAIRS}


def test_golden_pyramid_and_head(converted: tuple[nn.Module, dict[str, Tensor]]):
    model, arrays = converted
    assert model.num_classes == int(arrays["num_classes"])
    alpha = model.head.quality.test_alpha
    with torch.no_grad():
        pyramid = model.backbone(arrays["image"])
        logits, dists, quality = model.head(list(pyramid.values()))
    for name, feature in pyramid.items():
        assert_close(feature, arrays[name], name)
    for i, (c, d, q) in enumerate(zip(logits, dists, quality)):
        if f"bbox_pred_l{i}" in arrays:
            assert_close(d, arrays[f"bbox_pred_l{i}"], f"boxes {i}")
        assert_close(q, arrays[f"quality_logit_l{i}"], f"quality {i}")
        joint = joint_scores(c, q, alpha)[0].exp()
        assert_close(joint, arrays[f"cls_score_l{i}"][:, : model.num_classes], f"score {i}")


@pytest.mark.parametrize("run", ("main", "alt", "alt_rescaled"))
def test_golden_detections(converted: tuple[nn.Module, dict[str, Tensor]], run: str):
    model, arrays = converted
    found = detect(model, arrays, run)
    if run.endswith("rescaled"):
        found.pred_boxes.tensor /= arrays[f"{run}_scale_factor"]
    assert_same_detections(found, *stored(arrays, run), **OF_DETECTIONS)


def test_golden_detections_at_the_original_size(converted: tuple[nn.Module, dict[str, Tensor]]):
    model, arrays = converted
    found = detect(model, arrays, "alt_rescaled")
    size, scale = found.image_size, arrays["alt_rescaled_scale_factor"]
    width, height = (round(size[1] / scale[0].item()), round(size[0] / scale[1].item()))
    rescaled = detector_postprocess(found, height, width)
    # Detectron2 scales by whole sizes; undo what rounding them changed.
    rounding = torch.tensor([width / size[1], height / size[0]]).repeat(2) * scale
    rescaled.pred_boxes.tensor /= rounding
    boxes, scores, labels = stored(arrays, "alt_rescaled")
    has_area = Boxes(boxes).nonempty()  # Detectron2 drops the others
    expected = boxes[has_area], scores[has_area], labels[has_area]
    assert_same_detections(rescaled, *expected, **OF_DETECTIONS)


@pytest.fixture(scope="module", params=heads_with("cls_score_l0", "forward"))
def head_checkpoint(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """Name of a head of the reference, and a checkpoint of it over a pyramid of our own."""
    params = golden(f"head_{request.param}_params")
    keys = {
        "MODEL.FPN.OUT_CHANNELS": int(params["in_channels"]),
        "MODEL.CLQ.NUM_GROUPS": int(params["gn_groups"]),
    }
    state = mmdet_state(random_detector(small_config(keys)), "clq")
    state = {name: value for name, value in state.items() if not name.startswith("bbox_head.")}
    state |= {f"bbox_head.{n[3:]}": v for n, v in params.items() if n.startswith("sd.")}
    text = f"norm_cfg = dict(type='GN', num_groups={int(params['gn_groups'])})"
    path = tmp_path_factory.mktemp(request.param) / "head.pth"
    torch.save(
        {"meta": {"config": text, "CLASSES": class_names(params)}, "state_dict": state}, path
    )
    return request.param, path


def class_names(params: dict[str, Tensor]) -> list[str]:
    return [f"class{k}" for k in range(int(params["num_classes"]))]


def spare_class_facts(params: dict[str, Tensor]) -> tuple[float, float, float]:
    """Bias and weight norm of the spare class, and median norm of the others, of two the lower."""
    *norms, norm = params["sd.clq_cls.weight"].double().square().sum(dim=(1, 2, 3)).sqrt().tolist()
    return params["sd.clq_cls.bias"][-1].item(), norm, statistics.median_low(norms)


def test_golden_head_with_its_spare_class(head_checkpoint: tuple[str, Path], tmp_path: Path):
    head, path = head_checkpoint
    out = tmp_path / "kept.safetensors"
    convert_checkpoint.main([str(path), str(out), "--keep-spare"])
    model, names = load_detector(out)
    assert names == [*class_names(golden(f"head_{head}_params")), "spare"]
    arrays = golden(f"head_{head}_forward")
    with torch.no_grad():
        logits, dists, quality = model.head(levels(arrays, "feat"))
    for i, (c, d, q) in enumerate(zip(logits, dists, quality)):
        assert_close(d, arrays[f"bbox_pred_l{i}"], f"boxes {i}")
        assert_close(q, arrays[f"quality_logit_l{i}"], f"quality {i}")
        joint = joint_scores(c, q, model.head.quality.test_alpha)[0].exp()
        assert_close(joint, arrays[f"cls_score_l{i}"], f"score {i}")


def test_golden_spare_class_is_dropped_without_a_flag_only_where_silent(
    head_checkpoint: tuple[str, Path], tmp_path: Path
):
    head, path = head_checkpoint
    params = golden(f"head_{head}_params")
    bias, norm, median = spare_class_facts(params)
    out = tmp_path / "dropped.safetensors"
    flags = []
    if bias > -9 or norm > median / 4:
        facts = f"bias {bias:.2f}, weight norm {norm:.3g}, median class {median:.3g};"
        with pytest.raises(SystemExit, match=re.escape(facts) + ".*--keep-spare or --drop-spare"):
            convert_checkpoint.main([str(path), str(out)])
        assert not out.exists()
        flags = ["--drop-spare"]
    convert_checkpoint.main([str(path), str(out), *flags])
    assert load_detector(out)[0].num_classes == int(params["num_classes"])
