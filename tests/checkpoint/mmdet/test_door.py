"""The rest of the package goes through ``checkpoint.mmdet`` and knows no name of mmdetection."""

import re
from pathlib import Path

import clq
from clq.checkpoint import mmdet

INSIDE = Path(mmdet.__file__).parent


def test_no_other_module_knows_mmdetection():
    modules = [p for p in Path(clq.__file__).parent.rglob("*.py") if INSIDE not in p.parents]
    assert len(modules) > 20
    private = re.compile(r"bbox_head|neck\.|mmdet\.(config|meta|names|rename|spare_class)")
    found = {path.name: private.findall(path.read_text()) for path in modules}
    assert {name: names for name, names in found.items() if names} == {}
