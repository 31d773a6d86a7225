"""A browser without a window, which measures how a page is laid out."""

import html
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
FAULTS = ("overlaps", "beyond", "cut_off", "unloaded", "distorted", "without_alt")
WIDTHS = (1280, 400)
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking")

# Blocks of text and images are to lie apart; what scrolls inside its own box is left out.
_SCRIPT = """
<script>
addEventListener("load", () => {
  const blocks = [...document.querySelectorAll(
    "h1, h2, h3, p, img, figcaption, pre, dt, dd, nav li, .nothing, .scroll, .scroll-x, footer")]
    .filter(block => !block.parentElement.closest(".scroll, .scroll-x"));
  const box = block => block.getBoundingClientRect();
  const name = block =>
    `${block.tagName} ${block.className} ${(block.alt || block.textContent).trim().slice(0, 50)}`;
  const overlaps = [];
  blocks.forEach((one, i) => blocks.slice(i + 1).forEach(other => {
    if (one.contains(other)) return;
    const a = box(one), b = box(other);
    const x = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const y = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (x > 1 && y > 1) overlaps.push(`${name(one)} | ${name(other)}`);
  }));
  const images = [...document.images];
  const result = {
    width: innerWidth,
    page_width: document.documentElement.scrollWidth,
    num_blocks: blocks.length,
    num_images: images.length,
    overlaps: overlaps,
    beyond: blocks.filter(b => box(b).left < -1 || box(b).right > innerWidth + 1).map(name),
    cut_off: blocks.filter(b => b.scrollWidth > b.clientWidth + 1 && getComputedStyle(b).display
      !== "inline" && !b.matches(".scroll, .scroll-x")).map(name),
    unloaded: images.filter(image => !image.complete || !image.naturalWidth).map(name),
    distorted: images.filter(image => Math.abs(image.naturalWidth / image.naturalHeight
      * box(image).height - box(image).width) > 2).map(name),
    without_alt: images.filter(image => !image.alt).length,
  };
  parent.postMessage(JSON.stringify(result), "*");
});
</script>
"""
# A window is at least 500 pixels wide, a frame is not.
_FRAME = """<!doctype html><link rel="icon" href="data:,"><pre id="measured"></pre>
<script>addEventListener("message", e => document.getElementById("measured").textContent = e.data);
</script><iframe src="page.html" width="{width}" height="1000" style="border: 0"></iframe>
"""


def find_browser() -> str | None:
    """Path of a Chromium, if there is one."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def layout_faults(page: Path, width: int) -> dict[str, Any]:
    """Find faults in the layout of a page, by kind; empty without any.

    Args:
        page: see :func:`measure_layout`.
        width: of the view in pixels.
    """
    layout = measure_layout(page, width)
    assert layout["width"] == width and layout["num_blocks"] > 10 and layout["num_images"] > 3
    found = {kind: layout[kind] for kind in FAULTS if layout[kind]}
    is_wide = layout["page_width"] > width
    return {**found, "page_width": layout["page_width"]} if is_wide else found


def measure_layout(page: Path, width: int) -> dict[str, Any]:
    """Open a page and measure it; a console message of the browser is an error.

    Args:
        page: which allows no script, so that a copy without that rule is opened.
        width: of the view in pixels.
    """
    browser = find_browser()
    assert browser
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text())
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "page.html").write_text(text.replace("</body>", f"{_SCRIPT}</body>"))
        frame = Path(folder, "frame.html")
        frame.write_text(_FRAME.format(width=width))
        flags = [*FLAGS, f"--user-data-dir={folder}/profile", "--window-size=1400,1000"]
        flags += ["--enable-logging=stderr", "--hide-scrollbars"]
        flags += ["--virtual-time-budget=10000", "--dump-dom"]
        done = subprocess.run(
            [browser, *flags, frame.as_uri()], capture_output=True, text=True, timeout=120
        )
    messages = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert not messages, messages
    found = re.search(r'<pre id="measured">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found and found[1], done.stderr[-2000:]
    return json.loads(html.unescape(found[1]))
