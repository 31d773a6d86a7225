"""Report user errors as one-line messages."""

import builtins
import contextlib
import errno
import logging
import re
import sys
import time
from collections.abc import Iterator

from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from ..utils.hardware import is_out_of_memory
from ..utils.unprintable import escape_unprintable
from ..utils.wheel_download import DownloadError

USER_ERRORS = (ValueError, OSError, DownloadError, FloatingPointError)
RESUME = "the same command with --resume goes on at the last checkpoint"
# The last line of a traceback, with the type and message of the error.
_ERROR = re.compile(r".*^(?:\w+\.)*(?P<name>\w+): (?P<text>.+)", re.MULTILINE | re.DOTALL)
# Messages of gloo, NCCL and the rendezvous store when a peer has exited.
_PEER_FAILURE = re.compile(
    r"(?:closed|reset) by peer|broken pipe|remote process exited|connection was likely closed", re.I
)
# Messages of PyTorch's DataLoader and of its workers' shared memory.
_WORKER_FAILURE = re.compile(
    r"DataLoader worker \(pid[^\n]*|[^\n]*(?:shared memory|/torch_\d+|/dev/shm|ancdata)[^\n]*"
)
_PEER_ENDED = "another process of the run ended; its log may tell why."
# Seconds in which the launcher terminates a process whose error another one reports. A process
# that lost a peer waits longer, since that peer may be waiting, too.
_USER_ERROR_DELAY, _PEER_FAILURE_DELAY = 5, 10


@contextlib.contextmanager
def exit_on_user_error(*, debug: bool = False, hint: str = RESUME) -> Iterator[None]:
    """Exit with a one-line message on standard error when the user's input is at fault.

    Args:
        debug: raise the error, with its traceback.
        hint: what to do after Ctrl-C, or after a process was killed.

    Raises:
        SystemExit: with code 1 after such an error, with code 130 after Ctrl-C.
    """
    try:
        yield
    except KeyboardInterrupt:
        print(f"\nInterrupted; {hint}.", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        text = _describe(error, hint)
        if debug or text is None:
            raise
        sys.exit(f"error: {escape_unprintable(text)}")


@contextlib.contextmanager
def defer_peer_errors(*, is_first: bool) -> Iterator[None]:
    """Delay raising so that only one process of the run reports the error.

    The launcher terminates the others once one has failed.

    Args:
        is_first: this process reports user errors without delay.
    """
    try:
        yield
    except Exception as error:
        if is_peer_failure(error):
            time.sleep(_PEER_FAILURE_DELAY)
        elif isinstance(error, USER_ERRORS) and not is_first:
            time.sleep(_USER_ERROR_DELAY)
        raise


def suppress_user_error_tracebacks() -> None:
    """Log user errors in one line, without the traceback that Detectron2's trainer logs."""
    logging.getLogger("detectron2.engine.train_loop").addFilter(_without_traceback)


def is_peer_failure(error: BaseException | None) -> bool:
    """Tell whether an error only follows from the exit of another process of the run."""
    return isinstance(error, RuntimeError) and bool(_PEER_FAILURE.search(str(error)))


def _without_traceback(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, USER_ERRORS):
        record.msg, record.args, record.exc_info = "The training ended: %s", (error,), None
    elif error and _describe_resources(error, RESUME):
        record.msg, record.exc_info = "The training ended for lack of a resource.", None
    elif is_peer_failure(error):
        record.msg, record.exc_info = _PEER_ENDED.capitalize(), None
    return True


def _describe_resources(error: BaseException, hint: str) -> str | None:
    """Describe a lack of memory or of descriptors, or a lost worker; None for any other error."""
    if isinstance(error, OSError) and error.errno == errno.EMFILE:
        return f"{error}; raise the limit with `ulimit -n 4096`, or lower DATALOADER.NUM_WORKERS."
    is_of_torch = isinstance(error, (RuntimeError, ProcessRaisedException))
    failure = _WORKER_FAILURE.search(str(error)) if is_of_torch else None
    if failure:
        reason = failure[0].strip().rstrip(".")
        return (
            f"the workers that read images failed ({reason}), mostly for lack of memory or shared "
            f"memory; lower DATALOADER.NUM_WORKERS, 0 needs none; {hint}."
        )
    if is_out_of_memory(error):
        return f"the memory does not suffice; lower SOLVER.IMS_PER_BATCH or INPUT's sizes; {hint}."
    return None


def _describe(error: Exception, hint: str) -> str | None:
    """Describe a user error; None for any other."""
    if isinstance(error, USER_ERRORS) and getattr(error, "errno", None) != errno.EMFILE:
        if isinstance(error, OSError) and error.errno is not None and error.filename:
            return f"{error.filename} can't be read or written ({error.strerror})."
        return str(error)
    if is_peer_failure(error):
        return _PEER_ENDED
    resources = _describe_resources(error, hint)
    if resources:
        return resources
    if isinstance(error, ProcessExitedException) and error.signal_name:
        return f"a process of the run was ended by {error.signal_name}; {hint}."
    if not isinstance(error, ProcessRaisedException):
        return None
    # It holds the traceback of the other process as text.
    found = _ERROR.fullmatch(str(error).rstrip())
    kind = {**vars(builtins), "DownloadError": DownloadError}.get(found["name"] if found else "")
    is_user_error = isinstance(kind, type) and issubclass(kind, USER_ERRORS)
    return found["text"] if found and is_user_error else None
