"""What a user can cause, told in one sentence instead of a traceback."""

import builtins
import contextlib
import logging
import re
import sys
from collections.abc import Iterator

from torch.multiprocessing import ProcessRaisedException

from clq.data.downloads import DownloadError

USER_ERRORS = (ValueError, OSError, DownloadError, FloatingPointError)
RESUME = "the same command with --resume goes on at the last checkpoint"
# The last line of a traceback that names an error, and what follows.
_ERROR = re.compile(r".*^(?:\w+\.)*(?P<name>\w+): (?P<text>.+)", re.MULTILINE | re.DOTALL)
# What gloo and NCCL say where another process of the run has ended.
_LOST = re.compile(r"(?:closed|reset) by peer|remote process exited")


@contextlib.contextmanager
def exit_on_user_error(*, debug: bool = False, go_on: str = RESUME) -> Iterator[None]:
    """End the program with one sentence on standard error where a user's input is at fault.

    Args:
        debug: let the error through, with its traceback.
        go_on: what to do after Ctrl-C.

    Raises:
        SystemExit: of code 1 after such an error, of code 130 after Ctrl-C.
    """
    try:
        yield
    except KeyboardInterrupt:
        print(f"\nInterrupted; {go_on}.", file=sys.stderr)
        sys.exit(130)
    except (*USER_ERRORS, ProcessRaisedException) as error:
        text = _sentence(error)
        if debug or text is None:
            raise
        sys.exit(f"error: {text}")


def log_user_errors_in_one_line() -> None:
    """Keep the traceback of a user's error out of the log, where Detectron2's trainer puts it."""
    logger = logging.getLogger("detectron2.engine.train_loop")
    if _without_traceback not in logger.filters:
        logger.addFilter(_without_traceback)


def lost_another_process(error: BaseException | None) -> bool:
    """Whether a process failed for no other reason than that another of the run did."""
    return isinstance(error, RuntimeError) and bool(_LOST.search(str(error)))


def _without_traceback(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, USER_ERRORS):
        record.msg, record.args, record.exc_info = "The training ended: %s", (error,), None
    elif lost_another_process(error):
        record.msg, record.exc_info = "Another process failed; its log tells why.", None
    return True


def _sentence(error: Exception) -> str | None:
    """The text of a user's error; None if a process that was launched failed by another."""
    if isinstance(error, ProcessRaisedException):  # it has the other process's traceback as text
        found = _ERROR.fullmatch(str(error).rstrip())
        kind = {**vars(builtins), "DownloadError": DownloadError}.get(
            found["name"] if found else ""
        )
        is_users = isinstance(kind, type) and issubclass(kind, USER_ERRORS)
        return found["text"] if found and is_users else None
    return str(error)
