"""Report user errors as one-line messages."""

import builtins
import contextlib
import logging
import re
import sys
import time
from collections.abc import Iterator

from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from ..utils.wheel_download import DownloadError

USER_ERRORS = (ValueError, OSError, DownloadError, FloatingPointError)
RESUME = "the same command with --resume goes on at the last checkpoint"
# The last line of a traceback that names an error, and what follows.
_ERROR = re.compile(r".*^(?:\w+\.)*(?P<name>\w+): (?P<text>.+)", re.MULTILINE | re.DOTALL)
# What gloo, NCCL and the store where processes meet say where another process has ended.
_LOST = re.compile(
    r"(?:closed|reset) by peer|broken pipe|remote process exited|connection was likely closed", re.I
)
_ANOTHER_ENDED = "another process of the run ended; its log may tell why."
# Seconds in which a launcher ends a process that has nothing new to say, and those in which another
# process that failed may have to wait for its own turn.
_PATIENCE, _LONG_PATIENCE = 5, 10


@contextlib.contextmanager
def exit_on_user_error(*, debug: bool = False, go_on: str = RESUME) -> Iterator[None]:
    """End the program with one sentence on standard error where a user's input is at fault.

    Args:
        debug: let the error through, with its traceback.
        go_on: what to do after Ctrl-C, or where a process was killed.

    Raises:
        SystemExit: of code 1 after such an error, of code 130 after Ctrl-C.
    """
    try:
        yield
    except KeyboardInterrupt:
        print(f"\nInterrupted; {go_on}.", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        text = _sentence(error, go_on)
        if debug or text is None:
            raise
        sys.exit(f"error: {text}")


@contextlib.contextmanager
def speak_in_turn(*, is_first: bool) -> Iterator[None]:
    """Hold an error back while another process of the run is to tell of it.

    A launcher ends the others once one has failed, so that the user reads one sentence.

    Args:
        is_first: whether this process tells of the user's errors at once.
    """
    try:
        yield
    except Exception as error:
        if lost_another_process(error):
            time.sleep(_LONG_PATIENCE)
        elif isinstance(error, USER_ERRORS) and not is_first:
            time.sleep(_PATIENCE)
        raise


def log_user_errors_in_one_line() -> None:
    """Keep the traceback of a user's error out of the log, where Detectron2's trainer puts it."""
    logger = logging.getLogger("detectron2.engine.train_loop")
    if _without_traceback not in logger.filters:
        logger.addFilter(_without_traceback)


def lost_another_process(error: BaseException | None) -> bool:
    """Tell whether a process failed for no other reason than that another of the run did."""
    return isinstance(error, RuntimeError) and bool(_LOST.search(str(error)))


def _without_traceback(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, USER_ERRORS):
        record.msg, record.args, record.exc_info = "The training ended: %s", (error,), None
    elif lost_another_process(error):
        record.msg, record.exc_info = _ANOTHER_ENDED.capitalize(), None
    return True


def _sentence(error: Exception, go_on: str) -> str | None:
    """Word an error for the user; None if it is a mistake of ours."""
    if isinstance(error, USER_ERRORS):
        return str(error)
    if lost_another_process(error):
        return _ANOTHER_ENDED
    if isinstance(error, ProcessExitedException) and error.signal_name:
        return f"a process of the run was ended by {error.signal_name}; {go_on}."
    if isinstance(error, ProcessRaisedException):  # it has the other process's traceback as text
        found = _ERROR.fullmatch(str(error).rstrip())
        kind = {**vars(builtins), "DownloadError": DownloadError}.get(
            found["name"] if found else ""
        )
        is_users = isinstance(kind, type) and issubclass(kind, USER_ERRORS)
        return found["text"] if found and is_users else None
    return None
