"""A page with a script, served to a browser without a window until it shows its result."""

import json
import queue
import subprocess
import tempfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

from reference.browser import FLAGS, find_browser

# The page is in a frame of its own width. This one looks whether its #result has a text, and tells
# the server what stands there and which elements stick out.
_FRAME = """<!doctype html><link rel="icon" href="data:,">
<iframe id="frame" src="{address}" width="{width}" height="1000" style="border: 0"></iframe>
<script>
const timer = setInterval(() => {{
  const page = frame.contentDocument, view = frame.contentWindow;
  const result = page?.getElementById("result")?.textContent;
  if (!result) return;
  clearInterval(timer);
  const beyond = [...page.body.querySelectorAll("*")]
    .filter(part => part.getBoundingClientRect().right > view.innerWidth + 1)
    .map(part => part.outerHTML.slice(0, 80));
  const seen = {{
    result: JSON.parse(result), width: view.innerWidth, beyond, text: page.body.innerText}};
  fetch("/seen", {{method: "POST", body: JSON.stringify(seen)}});
}}, 50);
</script>
"""


class Seen(NamedTuple):
    """What a page showed.

    Attributes:
        result: JSON in the element of that id.
        width: of the view in pixels.
        beyond: elements that stick out to the right.
        text: what can be read.
    """

    result: Any
    width: int
    beyond: list[str]
    text: str


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, *args: Any, seen: "queue.Queue[Seen]", **kwargs: Any) -> None:
        self.seen = seen
        super().__init__(*args, **kwargs)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()
        self.seen.put(Seen(**json.loads(body)))

    def log_message(self, *_: Any) -> None:
        pass


def show_page(folder: Path, address: str, width: int = 1280, seconds: float = 50) -> Seen:
    """Open a page of a folder, and wait for the text of its element ``result``.

    Args:
        folder: that is served.
        address: of the page in it, with its query.
        width: of the view in pixels.
        seconds: to wait at most.

    Raises:
        queue.Empty: there was no result in time.
    """
    browser = find_browser()
    assert browser
    seen: "queue.Queue[Seen]" = queue.Queue()
    (folder / "frame.html").write_text(_FRAME.format(address=address, width=width))
    handler = partial(_Handler, seen=seen, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/frame.html"
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            # Without a debugging port, the browser would leave once the frame is loaded.
            flags = [*FLAGS, "--remote-debugging-port=0", f"--user-data-dir={profile}"]
            command = [browser, *flags, "--window-size=1400,1000", url]
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            try:
                return seen.get(timeout=seconds)
            finally:
                process.terminate()
                process.wait()
                server.shutdown()
