"""What runs an exported file needs neither PyTorch nor Detectron2, nor what those bring."""

import subprocess
import sys
from pathlib import Path

import pytest

import clq.runtime
from reference.tiny import process_environment

MODULES = [f"clq.runtime.{path.stem}" for path in Path(clq.runtime.__path__[0]).glob("*.py")]
ALLOWED = {"clq", "numpy", "PIL"}
SOURCE = """
import importlib, sys
before = set(sys.modules)
importlib.import_module(sys.argv[1])
print(*{name.partition(".")[0] for name in set(sys.modules) - before
        if "site-packages" in (getattr(sys.modules[name], "__file__", None) or "")})
"""


@pytest.mark.parametrize("module", ["clq.runtime", *sorted(MODULES)])
def test_a_module_imports_numpy_and_pillow_alone(module: str):
    done = subprocess.run(
        [sys.executable, "-c", SOURCE, module],
        env=process_environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) <= ALLOWED
    assert "numpy" in done.stdout
