"""Control of a prediction as it runs: what a user sees of it, and ends it by."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

import numpy as np

from ..runtime.inputs import Source

_TITLE = "clq predict"
_KEYS = {ord("q"), 27}  # and Esc
_NO_KEY = 255  # the low byte of OpenCV's -1
_POLL_MS = 50


class RunControl:
    """Shows drawings, and tells whether the run is to end before its inputs do."""

    def __init__(self, *, show: bool = False) -> None:
        """
        Args:
            show: open a window for the drawings.

        Raises:
            ValueError: there is no window to be had.
        """
        self.ended_by = ""  # empty until something ends the run
        self.shows = show
        if show:
            _open_window()

    def show(self, drawing: np.ndarray, source: Source) -> None:
        """Show a drawing, that of an image until a key is pressed.

        Args:
            drawing: (H, W, 3) uint8 RGB.
            source: that it is of.
        """
        import cv2

        cv2.imshow(_TITLE, np.ascontiguousarray(drawing[:, :, ::-1]))
        while not self.ended_by:
            key = cv2.waitKey(1 if source.is_video else _POLL_MS) & 0xFF
            is_closed = cv2.getWindowProperty(_TITLE, cv2.WND_PROP_VISIBLE) < 1
            if key in _KEYS or is_closed:
                self.ended_by = "the window"
            elif source.is_video or key != _NO_KEY:
                return

    @contextlib.contextmanager
    def end_on_interrupt(self, source: Source) -> Iterator[None]:
        """Let the first Ctrl-C end a stream that has no end; the second one interrupts.

        Other sources, and threads that get no signals, are left as they are.
        """
        is_main = threading.current_thread() is threading.main_thread()
        previous = signal.getsignal(signal.SIGINT)
        if not source.is_live or not is_main or previous is None:
            yield
            return

        def end(number: int, frame: FrameType | None) -> None:
            self.ended_by = "Ctrl-C"
            signal.signal(signal.SIGINT, previous)

        signal.signal(signal.SIGINT, end)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, previous)

    def close(self) -> None:
        """Close the window, if there is one."""
        if self.shows:
            import cv2

            cv2.destroyAllWindows()


def _open_window() -> None:
    import cv2

    has_display = sys.platform != "linux" or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    if not has_display:  # some builds of OpenCV would abort the process
        raise ValueError(
            "--show needs a display, and this machine has none (DISPLAY is not set); leave it out, "
            "the drawings are in the folder of --output."
        )
    try:
        cv2.namedWindow(_TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
    except cv2.error:
        raise ValueError(
            "--show needs a window, which the installed OpenCV can't open; run `pip uninstall "
            "opencv-python-headless` and `pip install opencv-python`."
        ) from None
