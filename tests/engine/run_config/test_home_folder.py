"""The home folder in paths of a yaml and of keys, which no shell expands."""

from pathlib import Path

import pytest

from clq.config import get_clq_cfg
from clq.engine import RunOptions
from clq.engine.run_config.merge import merge_config


def test_home_folder_in_every_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.yaml").write_text(
        'OUTPUT_DIR: "~/out"\nDATASETS: {TRAIN_JSON: ["~/t.json", "~/t"]}\n'
        'MODEL: {WEIGHTS: "~/w"}\n'
    )
    cfg = get_clq_cfg()
    merge_config(cfg, RunOptions(config_file="~/a.yaml", val=("~/v.json", "~/v")))
    assert (cfg.OUTPUT_DIR, cfg.MODEL.WEIGHTS) == (f"{tmp_path}/out", f"{tmp_path}/w")
    assert cfg.DATASETS.TRAIN_JSON == (f"{tmp_path}/t.json", f"{tmp_path}/t")
    assert cfg.DATASETS.VAL_JSON == (f"{tmp_path}/v.json", f"{tmp_path}/v")
    merge_config(cfg, RunOptions(opts=["OUTPUT_DIR", "~/other"]))
    assert cfg.OUTPUT_DIR == f"{tmp_path}/other"
