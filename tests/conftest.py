"""Fixtures that all tests share: quiet threads, clean catalogs and loggers, and a tiny data set."""

import logging
import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.logger import setup_logger

from clq.engine import final_report
from reference.devices import running_on
from reference.tiny import TinyData, write_pair

# Many threads that compete for few cores make small tensors slow, in child processes too.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A GPU is a parameter, and tests/cuda is there, only where there is one: elsewhere nothing is
# skipped for the lack of it.
DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
collect_ignore = [] if "cuda" in DEVICES else ["cuda"]


def pytest_configure(config: pytest.Config) -> None:
    for name in ("cpu", "cuda"):
        config.addinivalue_line("markers", f"on_{name}: a test that takes a device, on {name}")


def pytest_sessionstart() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> TinyData:
    """Three classes, images of 64 to 96 pixels, the last of each split without an object."""
    folder = tmp_path_factory.mktemp("tiny")
    return TinyData(
        train=write_pair(folder, "train", num_images=4, seed=1),
        val=write_pair(folder, "val", num_images=3, seed=2),
    )


@pytest.fixture(params=[pytest.param(d, marks=getattr(pytest.mark, f"on_{d}")) for d in DEVICES])
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """Each device of this machine in turn, for what ``reference.devices`` moves there.

    The tolerances of a test are those of CPU, so that TF32 is off.
    """
    device = torch.device(request.param)
    with running_on(device):
        yield device


@pytest.fixture
def cpu_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the GPUs of this machine from the test and from the processes that it starts."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture(autouse=True)
def clean_catalogs() -> Iterator[None]:
    """Take out the data sets that a test registered."""
    before = set(DatasetCatalog.list()), set(MetadataCatalog.list())
    yield
    for catalog, names in zip((DatasetCatalog, MetadataCatalog), before, strict=True):
        for name in set(catalog.list()) - names:
            catalog.remove(name)


@pytest.fixture(autouse=True)
def loud_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let errors of the report at the end of a run through, but for those a user can cause."""
    monkeypatch.setattr(final_report, "TOLERATED", (OSError, ValueError))


@pytest.fixture(autouse=True, scope="session")
def quick_setup() -> Iterator[None]:
    """Read three keys where Detectron2's set-up dumps and parses the configuration for each."""

    def get(cfg: CfgNode, key: str, *others: str, default: Any = None) -> Any:
        return cfg.get(key, default)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("detectron2.engine.defaults._try_get_key", get)
        yield


@pytest.fixture(autouse=True)
def clean_loggers() -> Iterator[None]:
    """Undo Detectron2's set-up of loggers, whose handlers keep the streams of the test."""
    yield
    setup_logger.cache_clear()
    for name in list(logging.root.manager.loggerDict):
        if name.split(".")[0] in ("clq", "detectron2", "fvcore"):
            logger = logging.getLogger(name)
            logger.propagate = True
            for handler in logger.handlers[:]:
                logger.removeHandler(handler)
