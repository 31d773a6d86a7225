"""The keys that CLQ adds."""

import re
from pathlib import Path

import pytest
from detectron2.config import get_cfg

import clq
from clq.config import add_clq_config, flatten, get_clq_cfg

PACKAGE = Path(clq.__file__).parent


def added_keys() -> list[str]:
    return sorted(dict(flatten(get_clq_cfg())).keys() - dict(flatten(get_cfg())).keys())


def test_keys_are_added_to_the_given_configuration_alone():
    cfg = get_cfg()
    before = cfg.dump()
    add_clq_config(get_cfg())
    assert get_cfg().dump() == before
    add_clq_config(cfg)
    assert cfg == get_clq_cfg() and len(added_keys()) > 20


def test_keys_of_detectron2_keep_their_defaults():
    ours = dict(flatten(get_clq_cfg()))
    for key, value in flatten(get_cfg()):
        assert ours[key] == value, key


@pytest.mark.parametrize("key", added_keys())
def test_a_key_is_read_and_explained(key: str):
    name = key.rpartition(".")[2]
    sources = [path for path in PACKAGE.rglob("*.py") if path.parent.name != "config"]
    readers = [path.name for path in sources if re.search(rf"\.{name}\b", path.read_text())]
    assert readers, f"nothing reads {key} but the checks of it"
    lines = (PACKAGE / "config" / "defaults.py").read_text().splitlines()
    (place,) = [i for i, line in enumerate(lines) if f"cfg.{key} = " in line]
    assert "  # " in lines[place] or lines[place - 1].lstrip().startswith("# "), key
