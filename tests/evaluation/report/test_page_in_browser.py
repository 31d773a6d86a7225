"""The page in a real browser: nothing overlaps or is cut off, and every image loads."""

from pathlib import Path

import pytest

from reference.browser import NAMES, WIDTHS, find_browser, layout_faults, measure_layout
from reference.report_run import write_made_up_report

pytestmark = pytest.mark.skipif(
    find_browser() is None,
    reason=f"needs a browser, {' or '.join(NAMES)}: apt-get install chromium",
)
CASES = {
    "one class": {"class_names": ["a cell"], "num_images": 20},
    "80 classes": {
        "class_names": [f"{k} class of a name that is long" for k in range(80)],
        "num_images": 60,
    },
    "no detections": {"class_names": ["a", "b"], "num_images": 5, "with_detections": False},
    "5000 images": {"class_names": ["a", "b", "c"], "num_images": 5000, "boxes": 2},
}


@pytest.fixture(scope="module", params=CASES)
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_made_up_report(tmp_path_factory.mktemp("page"), **CASES[request.param])[0]


@pytest.mark.parametrize("width", WIDTHS)
def test_layout(page: Path, width: int):
    assert layout_faults(page, width) == {}


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("<p>one</p><p style='margin-top: -30px'>another</p>", "overlaps"),
        ("<p style='width: 2000px'>wide</p>", "beyond"),
        ("<pre style='overflow: hidden; width: 60px'>a long line</pre>", "cut_off"),
        ("<img alt='x' src='data:image/png;base64,AAAA'>", "unloaded"),
        ("<img src='data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA='>", "without_alt"),
    ],
)
def test_faults_would_be_found(tmp_path: Path, body: str, fault: str):
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html><body>{body}</body>")
    assert measure_layout(page, 400)[fault]


def test_console_errors_would_be_found(tmp_path: Path):
    page = tmp_path / "page.html"
    page.write_text("<!doctype html><body><script>nothing()</script></body>")
    with pytest.raises(AssertionError, match="nothing is not defined"):
        measure_layout(page, 400)
