"""Train, evaluate and draw with a tiny RetinaNet: what a user of Detectron2 does, in seconds.

Run as a program in a folder of its own; prints one JSON line of what happened.
"""

import json
import sys
from pathlib import Path

import detectron2.model_zoo as model_zoo
import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.engine import DefaultPredictor, DefaultTrainer, default_setup
from detectron2.evaluation import COCOEvaluator
from detectron2.utils.visualizer import ColorMode, Visualizer
from PIL import Image

SIZE = 64  # pixels


class Trainer(DefaultTrainer):
    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> COCOEvaluator:
        return COCOEvaluator(dataset_name, output_dir=cfg.OUTPUT_DIR)


def write_dataset(folder: Path) -> None:
    """Two images with one bright square each, and their COCO json."""
    annotations = []
    for index in range(2):
        image = np.full((SIZE, SIZE, 3), 40, dtype=np.uint8)
        image[8:40, 8:40] = 220
        Image.fromarray(image).save(folder / f"{index}.png")
        box = {"bbox": [8, 8, 32, 32], "area": 1024, "iscrowd": 0, "category_id": 1}
        annotations.append({"id": index + 1, "image_id": index, **box})
    images = [
        {"id": index, "file_name": f"{index}.png", "height": SIZE, "width": SIZE}
        for index in range(2)
    ]
    categories = [{"id": 1, "name": "square"}]
    dataset = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    (folder / "squares.json").write_text(json.dumps(dataset))


def tiny_config() -> CfgNode:
    """RetinaNet of the model zoo, made small, with GroupNorm in the head."""
    cfg = model_zoo.get_config("COCO-Detection/retinanet_R_50_FPN_1x.yaml")
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.FPN.OUT_CHANNELS = 64
    cfg.MODEL.RETINANET.NUM_CLASSES = 1
    cfg.MODEL.RETINANET.NUM_CONVS = 1
    cfg.MODEL.RETINANET.NORM = "GN"
    cfg.MODEL.RETINANET.SCORE_THRESH_TEST = 0.0
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ("squares",)
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.INPUT.MIN_SIZE_TRAIN = (SIZE,)
    cfg.INPUT.MIN_SIZE_TEST = SIZE
    cfg.SOLVER.IMS_PER_BATCH = 2
    cfg.SOLVER.MAX_ITER = 1
    cfg.SOLVER.STEPS = ()
    cfg.OUTPUT_DIR = "output"
    return cfg


def main() -> None:
    write_dataset(Path())
    register_coco_instances("squares", {}, "squares.json", "")
    cfg = tiny_config()
    default_setup(cfg, None)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    resumed = Trainer(cfg)
    resumed.resume_or_load(resume=True)

    cfg.MODEL.WEIGHTS = "output/model_final.pth"
    image = np.asarray(Image.open("0.png"))
    detections = DefaultPredictor(cfg)(image[:, :, ::-1])["instances"]
    metadata = MetadataCatalog.get("squares")
    shapes = []
    for mode in ColorMode:
        drawing = Visualizer(image, metadata, instance_mode=mode)
        shapes.append(drawing.draw_instance_predictions(detections[:2]).get_image().shape)
    truth = Visualizer(image, metadata).draw_dataset_dict(DatasetCatalog.get("squares")[0])
    shapes.append(truth.get_image().shape)
    report = {
        "metrics": sorted(trainer._last_eval_results["bbox"]),
        "next_iteration": resumed.start_iter,
        "detections": len(detections),
        "shapes": shapes,
        "pkg_resources": "pkg_resources" in sys.modules,
        "log": Path("output/log.txt").read_text(),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
