"""Every file under configs/ loads, passes the checks and builds its model."""

from pathlib import Path

import pytest
import yaml
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.file_io import PathManager

from clq.config import check_config, get_clq_cfg
from clq.engine import CLQTrainer
from clq.modeling import CLQ
from reference.tiny import ROOT

FILES = sorted((ROOT / "configs").rglob("*.yaml"))
NAMES = [str(path.relative_to(ROOT / "configs")) for path in FILES]


def test_the_promised_files_are_there():
    promised = {"Base-CLQ.yaml", "COCO-Detection/clq_R_50_FPN_1x.yaml"}
    assert promised | {"Demo/clq_trees.yaml", "Demo/clq_blood_cells.yaml"} <= set(NAMES)


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_a_config_builds_its_model(path: Path):
    cfg = get_clq_cfg()
    cfg.merge_from_file(str(path))
    check_config(cfg)
    assert cfg.INPUT.FORMAT == "RGB" and cfg.MODEL.PIXEL_MEAN[0] > cfg.MODEL.PIXEL_MEAN[2]
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        assert name in DatasetCatalog.list()
    if cfg.MODEL.WEIGHTS:
        address = cfg.MODEL.WEIGHTS
        assert address.startswith("detectron2://") or PathManager.isfile(address)

    cfg.MODEL.DEVICE = "cpu"
    model = CLQTrainer.build_model(cfg)
    assert isinstance(model, CLQ)
    assert model.num_classes == cfg.MODEL.CLQ.NUM_CLASSES
    strides = [model.backbone.output_shape()[name].stride for name in model.head_in_features]
    assert strides == [8, 16, 32, 64, 128]
    optimizer = CLQTrainer.build_optimizer(cfg, model)
    assert type(optimizer).__name__ == cfg.SOLVER.OPTIMIZER
    CLQTrainer.build_lr_scheduler(cfg, optimizer)


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
