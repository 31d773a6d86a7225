"""The page: that it stands alone, escapes what it shows, and says what report.json says."""

from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from clq.evaluation.report.page import render
from reference.report_run import write_made_up_report

NASTY = "<script>alert('x')</script>"


class Tags(HTMLParser):
    """Collects tags with their attributes, and the text of a page."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("report")
    return write_made_up_report(folder, class_names=["cell", NASTY, "all"], num_images=12)


def test_the_page_stands_alone(report):
    page, _ = report
    found = Tags(page)
    assert not found.all("script") and not found.all("iframe")
    assert {a["href"] for a in found.all("link")} == {"data:,"}
    assert all(a["href"].startswith("#") for a in found.all("a"))
    assert all(a["src"].startswith("data:image/") for a in found.all("img"))
    assert all(a["alt"] for a in found.all("img")) and len(found.all("img")) > 20
    assert "http" not in page.read_text().replace("http-equiv", "").split("</style>")[0]
    ids = [a["id"] for _, a in found.tags if "id" in a]
    assert len(ids) == len(set(ids)) and {a["href"][1:] for a in found.all("a")} <= set(ids)


def test_names_of_users_are_text(report):
    page, facts = report
    assert NASTY in facts["class_names"]
    assert NASTY not in page.read_text() and NASTY in Tags(page).text


def test_control_characters_are_escaped():
    assert "a\\x1b[31m" in render("base.html.j2") + render_row("a\x1b[31m")


def render_row(name: str) -> str:
    from clq.evaluation.report.page import environment

    source = "{% import 'macros.html.j2' as ui %}{{ ui.table('t', ['n'], [[name]]) }}"
    return environment().from_string(source).render(name=name)


def test_numbers_of_the_page_are_those_of_the_json(report):
    page, facts = report
    text = Tags(page).text
    for metric in facts["metrics"].values():
        if metric["value"] is not None:
            assert f"{metric['value']:.1f}" in text
    best = facts["thresholds"]["all"]
    assert f"--score-threshold {best['score']}\n" in text  # a rounded one might drop a detection
    assert "--weights 'weights of '\"'\"'mine'\"'\"'.pth'" in text  # as a shell takes it
    for row in facts["ap_by_class"]:
        assert f"{row['AP']:.1f}" in text


def test_every_gallery_is_shown(report):
    page, facts = report
    found = Tags(page)
    captions = [a["alt"] for a in found.all("img") if "image.png" in (a["alt"] or "")]
    lists = {**facts["images"], "suspects": facts["suspects"][:24]}
    assert all(lists.values())
    assert len(captions) == sum(map(len, lists.values()))
    for heading in ("Images that cost most", "Missed objects", "False detections", "look wrong?"):
        assert heading in found.text


def test_every_figure_is_written_and_shown(report):
    page, _ = report
    names = {path.stem for path in page.parent.glob("*.png")}
    shown = {a["id"] for a in Tags(page).all("figure") if "id" in a}
    assert shown == names
    assert {"metrics", "thresholds", "classes", "confusion", "errors", "reliability_iou"} <= names
    for name in names:
        Image.open(page.parent / f"{name}.png").verify()


def test_without_detections_the_page_says_so(tmp_path: Path):
    page, facts = write_made_up_report(
        tmp_path, class_names=["a"], num_images=3, with_detections=False
    )
    assert facts["thresholds"]["all"] is None and facts["metrics"]["AP"]["value"] == 0
    text = Tags(page).text
    assert "No detection finds an object" in text and "clq predict" not in text


def test_a_failed_write_names_the_file(tmp_path: Path):
    (tmp_path / "report").write_text("in the way")
    with pytest.raises(OSError, match="report"):
        write_made_up_report(tmp_path, class_names=["a"], num_images=1)
