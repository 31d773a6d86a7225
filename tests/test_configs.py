"""Every file under configs/ loads, passes the checks, builds its model and runs."""

from pathlib import Path

import pytest
import torch
import yaml
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, Instances
from detectron2.utils.file_io import PathManager

from clq.config import check_config, check_training_config, get_clq_cfg
from clq.engine import CLQTrainer
from clq.modeling import CLQ
from reference.tiny import ROOT

FILES = sorted((ROOT / "configs").rglob("*.yaml"))
NAMES = [str(path.relative_to(ROOT / "configs")) for path in FILES]


PROMISED = {
    "Base-CLQ.yaml",
    "clq_own_data.yaml",
    "Demo/clq_trees.yaml",
    "Demo/clq_blood_cells.yaml",
    *(
        f"COCO-Detection/{name}.yaml"
        for name in (
            "clq_R_50_FPN_1x",
            "clq_R_50_FPN_2x_ms",
            "clq_R_101_FPN_2x_ms",
            "clq_R_50_D_FPN_2x_ms",
            "clq_ConvNeXt_T_FPN_3x_ms",
            "clq_X_101_32x4d_FPN_2x_ms",
            "clq_X_101_32x8d_FPN_2x_ms",
            "clq_X_101_64x4d_FPN_2x_ms",
            "clq_R_101_DCN_FPN_2x_ms",
            "clq_X_101_32x4d_DCN_FPN_2x_ms",
            "atss_R_50_FPN_1x",
            "atss_clq_R_50_FPN_1x",
            "atss_clq_align_R_50_FPN_1x",
            "atss_clq_alpha_0.5_R_50_FPN_1x",
            "gfl_R_50_FPN_1x",
        )
    ),
    *(
        f"ablations/clq_{name}.yaml"
        for name in (
            *(f"alpha_{alpha}" for alpha in ("0.0", "0.15", "0.3", "0.5", "0.75", "1.0")),
            *("alignment_off", "quality_off", "offsets_detached", "hard_target"),
        )
    ),
    *(f"augmentations/clq_{name}.yaml" for name in ("scale_jitter", "photometric", "mosaic")),
}


def load(path: Path) -> CfgNode:
    cfg = get_clq_cfg()
    cfg.merge_from_file(str(path))
    check_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    return cfg


def test_the_promised_files_are_there():
    assert PROMISED <= set(NAMES)


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_a_config_names_data_and_weights_that_are_known(path: Path):
    cfg = load(path)
    assert cfg.INPUT.FORMAT == "RGB" and cfg.MODEL.PIXEL_MEAN[0] > cfg.MODEL.PIXEL_MEAN[2]
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        assert name in DatasetCatalog.list()
    if cfg.MODEL.WEIGHTS:
        address = cfg.MODEL.WEIGHTS
        assert address.startswith("detectron2://") or PathManager.isfile(address)


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_a_config_builds_trains_a_step_and_detects(path: Path):
    cfg = load(path)
    model = CLQTrainer.build_model(cfg)
    assert isinstance(model, CLQ)
    assert model.num_classes == cfg.MODEL.CLQ.NUM_CLASSES
    strides = [model.backbone.output_shape()[name].stride for name in model.head_in_features]
    assert strides == [8, 16, 32, 64, 128]
    optimizer = CLQTrainer.build_optimizer(cfg, model)
    assert type(optimizer).__name__.startswith(cfg.SOLVER.OPTIMIZER)  # it may clip gradients too
    CLQTrainer.build_lr_scheduler(cfg, optimizer)

    gt = Instances((64, 96))
    gt.gt_boxes, gt.gt_classes = Boxes(torch.tensor([[8.0, 9, 70, 58]])), torch.tensor([0])
    image = {"image": torch.rand(3, 64, 96) * 255, "instances": gt}
    losses = model.train()([image])
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    for layer in (model.head.cls_score, model.head.bbox_pred, model.backbone.fpn_lateral3):
        assert layer.weight.grad.any()
    optimizer.step()
    model.test_score_thresh = 0.0
    with torch.no_grad():
        assert len(model.eval()([image])[0]["instances"]) > 0


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_a_leaf_is_short_and_says_where_it_writes(path: Path):
    if path.name.startswith("Base-"):
        return
    text = path.read_text()
    content = yaml.safe_load(text)
    assert len(text.splitlines()) < 12
    assert "_BASE_" in content and "OUTPUT_DIR" in content


def test_leaves_write_to_folders_of_their_own():
    folders = [yaml.safe_load(path.read_text()).get("OUTPUT_DIR") for path in FILES]
    named = [folder for folder in folders if folder]
    assert len(named) == len(set(named)) and all(name.startswith("output/") for name in named)


def test_the_coco_config_is_the_usual_schedule():
    cfg = get_clq_cfg()
    cfg.merge_from_file(str(ROOT / "configs/COCO-Detection/clq_R_50_FPN_1x.yaml"))
    assert (cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR) == (16, 0.01)
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS) == (90000, (60000, 80000))
    assert cfg.MODEL.RESNETS.DEPTH == 50 and not cfg.MODEL.RESNETS.STRIDE_IN_1X1
    assert len(MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).thing_classes) == 80


def schedule(name: str) -> tuple:
    solver = load(ROOT / "configs/COCO-Detection" / f"{name}.yaml").SOLVER
    return solver.IMS_PER_BATCH, solver.BASE_LR, solver.MAX_ITER, solver.STEPS


@pytest.mark.parametrize("name", [Path(name).stem for name in NAMES if "2x_ms" in name])
def test_a_2x_config_draws_its_scale_for_24_epochs(name: str):
    """Drops after 16 and 22 of 24 epochs."""
    assert schedule(name) == (16, 0.01, 180000, (120000, 165000))
    inputs = load(ROOT / "configs/COCO-Detection" / f"{name}.yaml").INPUT
    assert (inputs.MIN_SIZE_TRAIN, inputs.MIN_SIZE_TRAIN_SAMPLING) == ((480, 960), "range")
    assert (inputs.MAX_SIZE_TRAIN, inputs.MIN_SIZE_TEST, inputs.MAX_SIZE_TEST) == (1333, 800, 1333)


@pytest.mark.parametrize("name", [Path(name).stem for name in NAMES if "FPN_1x" in name])
def test_1x_configs_share_one_schedule(name: str):
    assert schedule(name) == (16, 0.01, 90000, (60000, 80000))


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_an_ablation_changes_one_key(path: Path):
    if path.parent.name != "ablations":
        return
    content = yaml.safe_load(path.read_text())
    assert content["_BASE_"] == "../COCO-Detection/clq_R_50_FPN_1x.yaml"
    assert list(content["MODEL"]) == ["CLQ"] and len(content["MODEL"]["CLQ"]) == 1
    (key, value), full = *content["MODEL"]["CLQ"].items(), load(path).MODEL.CLQ
    assert full[key] == value and (value != get_clq_cfg().MODEL.CLQ[key] or "0.3" in path.name)


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_an_augmentation_is_the_only_change(path: Path):
    if path.parent.name != "augmentations":
        return
    content = yaml.safe_load(path.read_text())
    assert content["_BASE_"] == "../COCO-Detection/clq_R_50_FPN_1x.yaml"
    assert set(content) == {"_BASE_", "INPUT", "OUTPUT_DIR"}
    assert list(content["INPUT"]) == ["AUGMENTATIONS"]
    cfg = load(path)
    check_training_config(cfg)
    (name,) = cfg.INPUT.AUGMENTATIONS
    assert name.startswith(path.stem.removeprefix("clq_"))
