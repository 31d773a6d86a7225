"""An address can't choose where its file lies, nor pass for another's."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from detectron2.utils.file_io import PathManager

from clq.config.read_yaml import check_config_file


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        short = self.path.startswith("/short")
        content = self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content) + 9 * short))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{web.server_port}"
        web.shutdown()
        thread.join()


def test_addresses_do_not_share_a_file(server: str):
    files = [PathManager.get_local_path(server + p) for p in ("/a/m.pth?v=1", "/a/m.pth?v=2")]
    assert [Path(f).read_text() for f in files] == ["/a/m.pth?v=1", "/a/m.pth?v=2"]
    assert {Path(f).name for f in files} == {"m.pth"}
    with pytest.raises(OSError, match="127.0.0.2:9/a/m.pth could not be fetched"):
        PathManager.get_local_path("http://127.0.0.2:9/a/m.pth?v=1")


@pytest.mark.parametrize("path", ["/../../m.pth", "/a/%2e%2e/m.pth", "/a/..%5c../m.pth"])
def test_an_address_that_climbs_is_refused(path: str, server: str, tmp_path: Path):
    with pytest.raises(ValueError, match="or '..' in it"):
        PathManager.get_local_path(server + path)
    assert not [*tmp_path.rglob("m.pth*")]


@pytest.mark.parametrize("path", ["/~/m.pth", "/a/%2fetc%2fm.pth", "/" + "a" * 300 + ".pth", "/"])
def test_every_other_stays_in_the_cache(path: str, server: str, tmp_path: Path):
    assert Path(PathManager.get_local_path(server + path)).is_relative_to(tmp_path / "cache")


def test_half_a_file_is_none(server: str, tmp_path: Path):
    for _ in range(2):
        with pytest.raises(OSError, match=r"could not be fetched \(.*bytes"):
            PathManager.get_local_path(server + "/short.pth")
    assert not [*tmp_path.rglob("short.pth")]


@pytest.mark.parametrize("base", ["http://127.0.0.2:9/a.yaml", "https://a/../b", "ftp://a/b"])
def test_a_config_takes_none_from_the_web(base: str, tmp_path: Path):
    (tmp_path / "a.yaml").write_text(f'_BASE_: ["{base}"]')
    if base.startswith("ftp"):
        check_config_file(str(tmp_path / "a.yaml"))  # for Detectron2 the name of a file
        return
    with pytest.raises(ValueError, match="CLQ_ALLOW_REMOTE_BASE=1 if you trust it"):
        check_config_file(str(tmp_path / "a.yaml"))
