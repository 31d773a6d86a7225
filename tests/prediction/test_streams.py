"""Cameras, addresses and patterns as inputs, against a server of this process."""

import contextlib
import http.server
import json
import signal
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from clq.prediction import predict_files
from clq.prediction.streams import probe_stream, put_live_last, split_inputs
from clq.runtime.inputs import Source, UnreadableError, read_frames
from reference.forks import ForkedProgram
from reference.prediction import pixels, read_video, write_checkpoint, write_image, write_video

SECRET = "s3cret"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("weights") / "model.safetensors")


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve a folder on this machine; gives the host and port."""
    handler = partial(_Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[str]:
    """A server of a video of 4 frames and of an image."""
    folder = tmp_path / "served"
    write_image(folder / "a.png", seed=2)
    write_video(folder / "clip.avi")
    (folder / "page.html").write_text("no video")
    with serve(folder) as host:
        yield host


class Camera:
    """A camera of OpenCV, which gives frames until a limit."""

    def __init__(self, address: object, limit: int = 10**6) -> None:
        self.count, self.limit = 0, limit

    def isOpened(self) -> bool:
        return self.limit > 0

    def grab(self) -> bool:
        return self.read()[0]

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.count += 1
        has_frame = self.count <= self.limit
        return has_frame, pixels(seed=self.count) if has_frame else None

    def get(self, key: int) -> float:
        return {cv2.CAP_PROP_FRAME_COUNT: -1.0, cv2.CAP_PROP_FPS: 90000.0}[key]

    def release(self) -> None:
        pass


def content_of(output: Path) -> dict:
    return json.loads((output / "predictions.json").read_text())


def names(*inputs: str) -> list[str]:
    return [stream.name for stream in split_inputs(inputs)[0]]


# --------------------------------------------------------------------------- told by looking


@pytest.mark.parametrize(
    "address, name",
    (
        ("0", "camera-0"),
        ("rtsp://cam.local/live/1", "cam.local-live-1"),
        (f"rtsp://user:{SECRET}@cam:554/live", "cam-live"),
        (f"RTSPS://user:{SECRET}@cam/", "cam"),
        (f"http://cam/a.mjpg?user=u&password={SECRET}#x", "cam-a.mjpg"),
        (f"rtsp://10.0.0.1/user=u_password={SECRET}_channel=1/main", "10.0.0.1-main"),
        (f"rtsp://user:4/{SECRET}@cam/live", "rtsp-stream"),  # a slash cuts the password
        (f"rtsp://user:4?{SECRET}@cam/live", "rtsp-stream"),
        (f"rtsp://user:4#{SECRET}@cam/live", "rtsp-stream"),
        ("https://[::1]:80/../x/clip.mp4", "1-x-clip.mp4"),
        (f"http://h/{'a' * 300}.mp4", f"{'a' * 96}.mp4"),
    ),
)
def test_a_stream_is_called_by_host_and_path(address: str, name: str):
    (stream,), paths = split_inputs([address])
    assert stream.name == name and paths == [] and stream.path == Path(name)
    assert SECRET not in repr(stream) and str(stream.address) == address


def test_a_file_of_that_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for name in ("0", "a[1].png", "a1.png"):
        Path(name).touch()
    assert split_inputs(["0", "a[1].png"]) == ([], [Path("0"), Path("a[1].png")])
    assert split_inputs(["a[12].png"]) == ([], [Path("a1.png")])
    assert names("1") == ["camera-1"]
    assert split_inputs([Path("not_there")]) == ([], [Path("not_there")])


def test_a_pattern_is_expanded_in_sorted_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    files = [write_image(tmp_path / "p" / name) for name in ("b.png", "a.png", "sub/c.png")]
    assert split_inputs(["~/p/*.png"])[1] == sorted(files[:2])
    assert split_inputs([tmp_path / "p" / "**" / "*.png"])[1] == sorted(files)
    with pytest.raises(ValueError, match=r"no file matches the pattern .*p/\*\.jpg\."):
        split_inputs([f"{tmp_path}/p/*.jpg"])
    earlier = tmp_path / "p" / "sub"
    found = split_inputs([tmp_path / "p" / "**" / "*.png"], ignored=earlier)[1]
    assert found == sorted(files[:2])


@pytest.mark.parametrize(
    "address, told",
    (
        (f"rtmp://u:{SECRET}@h/x", "an address of rtmp, which is not read; there are http, https"),
        (f"rtsp://u:{SECRET}@[h/x", "an address of rtsp that is not valid"),
    ),
)
def test_an_address_that_can_not_be_used_is_not_shown(address: str, told: str):
    with pytest.raises(ValueError) as error:
        split_inputs([address])
    assert told in str(error.value) and SECRET not in str(error.value)


def test_the_live_stream_comes_last_and_alone(tmp_path: Path):
    live, other = (
        Source(Path(name), name, is_video=True, num_frames=0, address=name) for name in ("x", "y")
    )
    image = Source(tmp_path / "a.png", "a.png")
    assert put_live_last([live, image]) == [image, live]
    with pytest.raises(ValueError, match="x and y have no end, so that only the first would be"):
        put_live_last([live, image, other])
    ended = Source(Path("z"), "z", is_video=True, num_frames=4, address="z?1")
    with pytest.raises(ValueError, match="two streams are both called z"):
        put_live_last([ended, Source(Path("z"), "z", address="z?2")])


# -------------------------------------------------------------------------- read and written


def test_a_video_and_an_image_of_a_server_are_read(host: str, weights: Path, tmp_path: Path):
    inputs = [f"http://u:{SECRET}@{host}/clip.avi", f"http://{host}/a.png"]
    out = tmp_path / "out"
    lines = predict_files(weights, inputs, out)
    assert lines[-1].startswith("1 image, 1 video of 4 frames, ")
    images = content_of(out)["images"]
    assert [(i["file_name"], i.get("frame")) for i in images] == [
        *(("127.0.0.1-clip.avi", frame) for frame in range(4)),
        ("127.0.0.1-a.png", None),
    ]
    assert len(read_video(out / "127.0.0.1-clip.avi.mp4")) == 4
    assert (out / "127.0.0.1-a.png").is_file()
    assert SECRET not in (out / "predictions.json").read_text() + "".join(lines)


def test_frames_of_a_server_are_those_of_the_file(host: str, tmp_path: Path):
    (video, image), _ = split_inputs([f"http://{host}/clip.avi", f"http://{host}/a.png"])
    video, image = probe_stream(video), probe_stream(image)
    assert (video.num_frames, video.frame_rate, video.is_live) == (4, 10.0, False)
    expected = read_video(tmp_path / "served" / "clip.avi")
    assert [np.array_equal(*pair) for pair in zip(read_frames(video), expected, strict=True)]
    (found,) = read_frames(image)
    np.testing.assert_array_equal(found, pixels(seed=2)[:, :, ::-1])
    assert (image.num_frames, image.is_live) == (1, False)


@pytest.mark.parametrize("path", ("page.html", "missing.mp4"))
def test_what_sends_no_video_is_told_without_the_password(host: str, path: str):
    (stream,), _ = split_inputs([f"http://u:{SECRET}@{host}/{path}"])
    with pytest.raises(UnreadableError) as error:
        probe_stream(stream)
    assert str(error.value).startswith(f"127.0.0.1-{path} can't be read (nothing answers there")


def test_a_missing_camera_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cv2, "VideoCapture", partial(Camera, limit=0))
    with pytest.raises(UnreadableError, match=r"camera-7 can't be read \(there is no such camera"):
        probe_stream(split_inputs(["7"])[0][0])


@pytest.mark.parametrize("is_interrupted", (True, False))
def test_a_camera_is_read_until_ctrl_c_or_its_end(
    is_interrupted: bool, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """All is complete then, and Ctrl-C does again what it did."""

    class Interrupted(Camera):
        def read(self) -> tuple[bool, np.ndarray | None]:
            if self.count == 3 and is_interrupted:
                signal.raise_signal(signal.SIGINT)
            return super().read()

    monkeypatch.setattr(cv2, "VideoCapture", partial(Interrupted, limit=5))
    before, out = signal.getsignal(signal.SIGINT), tmp_path / "out"
    image = write_image(tmp_path / "a.png")
    lines = predict_files(weights, ["0", image], out)
    monkeypatch.undo()
    count, reason = (4, "Ctrl-C") if is_interrupted else (5, "it ended")
    assert lines[0] == f"note: camera-0 gave {count} frames until {reason}"
    assert lines[1].startswith(f"1 image, 1 video of {count} frames, ")
    file_names = [image["file_name"] for image in content_of(out)["images"]]
    assert file_names == ["a.png", *["camera-0"] * count]
    assert len(read_video(out / "camera-0.mp4")) == count
    assert signal.getsignal(signal.SIGINT) is before


def test_the_second_ctrl_c_interrupts(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class Impatient(Camera):
        def read(self) -> tuple[bool, np.ndarray | None]:
            for _ in range(2 if self.count == 3 else 0):
                signal.raise_signal(signal.SIGINT)
            return super().read()

    monkeypatch.setattr(cv2, "VideoCapture", Impatient)
    # A shell lets programs in its background ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            predict_files(weights, ["0"], tmp_path / "out")
    finally:
        signal.signal(signal.SIGINT, before)
    assert not (tmp_path / "out" / "predictions.json").exists()


def test_no_password_is_shown_where_a_stream_breaks(weights: Path, tmp_path: Path):
    """In a process of its own: OpenCV and FFmpeg, too, write to its standard error."""
    code = "import sys; from clq.cli.predict import main; main(sys.argv[1:])"
    address = f"rtsp://user:{SECRET}@127.0.0.1:9/live"
    done = ForkedProgram(code, address, "--weights", weights, cwd=tmp_path).wait()
    assert done.returncode == 1 and done.stdout == "" and list(tmp_path.iterdir()) == []
    assert done.stderr == (
        "error: 127.0.0.1-live can't be read (nothing answers there, it asks for a password, or it "
        "sends no video); --skip-unreadable goes on without it.\n"
    )
