"""Data sets that a configuration names by their files."""

import json
from pathlib import Path

import pytest
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from clq.config import get_clq_cfg
from clq.data import register_json_datasets
from reference.formats import write_voc, write_yolo
from reference.tiny import CLASS_NAMES, Pair, TinyData


@pytest.fixture
def cfg() -> CfgNode:
    return get_clq_cfg()


def texts(pair: Pair) -> tuple[str, ...]:
    return tuple(map(str, pair))


def test_without_json_nothing_changes(cfg: CfgNode):
    before, names = cfg.clone(), DatasetCatalog.list()
    register_json_datasets(cfg)
    assert cfg == before and DatasetCatalog.list() == names


def test_both_are_registered_and_take_the_place_of_the_names(cfg: CfgNode, tiny_data: TinyData):
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("coco_2017_train",), ("coco_2017_val",)
    cfg.DATASETS.TRAIN_JSON, cfg.DATASETS.VAL_JSON = texts(tiny_data.train), texts(tiny_data.val)
    register_json_datasets(cfg)
    assert (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST) == (("train",), ("val",))
    assert cfg.MODEL.CLQ.NUM_CLASSES == 3
    assert cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS is False
    assert MetadataCatalog.get("val").thing_classes == CLASS_NAMES
    assert MetadataCatalog.get("train").thing_dataset_id_to_contiguous_id == {3: 0, 17: 1, 90: 2}

    records = {record["image_id"]: record for record in DatasetCatalog.get("train")}
    assert set(records) == {10, 17, 24, 31}
    assert records[31]["annotations"] == []
    assert Path(records[10]["file_name"]) == tiny_data.train.images / "0.png"
    # The first object of the json is a dot, whose category 90 comes last by id.
    first = records[10]["annotations"][0]
    assert first["category_id"] == 2
    assert first["bbox"] == tiny_data.train.content["annotations"][0]["bbox"]


@pytest.mark.parametrize(
    ("key", "train", "test"), [("TRAIN_JSON", ("train",), ()), ("VAL_JSON", (), ("val",))]
)
def test_one_alone_leaves_no_named_set_of_other_classes(
    cfg: CfgNode, tiny_data: TinyData, key: str, train: tuple, test: tuple
):
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("coco_2017_train",), ("coco_2017_val",)
    cfg.DATASETS[key] = texts(tiny_data.val)
    register_json_datasets(cfg)
    assert (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST) == (train, test)
    assert cfg.MODEL.CLQ.NUM_CLASSES == 3


def test_classes_must_agree(cfg: CfgNode, tiny_data: TinyData, tmp_path: Path):
    content = tiny_data.val.content
    content["categories"].append({"id": 4, "name": "line"})
    other = tmp_path / "other.json"
    other.write_text(json.dumps(content))
    cfg.DATASETS.TRAIN_JSON = texts(tiny_data.train)
    cfg.DATASETS.VAL_JSON = (str(other), str(tiny_data.val.images))
    with pytest.raises(ValueError, match="only in evaluation \\['line'\\]"):
        register_json_datasets(cfg)


def test_a_second_run_in_one_process_replaces_the_first(cfg: CfgNode, tiny_data: TinyData):
    for pair in (tiny_data.train, tiny_data.val):
        cfg.DATASETS.TRAIN_JSON = texts(pair)
        register_json_datasets(cfg)
        assert MetadataCatalog.get("train").json_file == str(pair.json_file)
        assert len(DatasetCatalog.get("train")) == len(pair.content["images"])


def test_each_key_takes_its_own_split(cfg: CfgNode, tiny_data: TinyData, tmp_path: Path):
    for name, pair in tiny_data._asdict().items():
        data = write_yolo(pair, tmp_path, name)
    cfg.DATASETS.TRAIN_JSON, cfg.DATASETS.VAL_JSON = (str(data),), (str(data), "")
    register_json_datasets(cfg)
    for name in ("train", "val"):
        metadata = MetadataCatalog.get(name)
        assert metadata.json_file == f"{data}:{name}" and metadata.image_root == str(tmp_path)
        names = [Path(record["file_name"]).parent.name for record in DatasetCatalog.get(name)]
        assert len(names) == len(getattr(tiny_data, name).content["images"]) and set(names) == {
            name
        }
    cfg.DATASETS.TRAIN_JSON = (str(data), "", str(data))
    with pytest.raises(ValueError, match="must be annotations and their image folder, of each"):
        register_json_datasets(cfg)


def test_a_class_that_only_one_voc_folder_has(cfg: CfgNode, tiny_data: TinyData, tmp_path: Path):
    folders = [write_voc(pair, tmp_path / name) for name, pair in tiny_data._asdict().items()]
    for path in (folders[1] / "Annotations").iterdir():
        path.write_text(path.read_text().replace(">dot<", ">bar<"))
    cfg.DATASETS.TRAIN_JSON, cfg.DATASETS.VAL_JSON = ((str(folder), "") for folder in folders)
    with pytest.raises(ValueError, match=r"only in training \['dot'\].*; a classes.txt in each"):
        register_json_datasets(cfg)
    for folder in folders:
        (folder / "classes.txt").write_text("dot\nblock\nbar\n")
    register_json_datasets(cfg)
    assert MetadataCatalog.get("val").thing_classes == ["dot", "block", "bar"]
