"""What a user can cause, told in one sentence instead of a traceback."""

import builtins
import contextlib
import re
import sys
from collections.abc import Iterator

from torch.multiprocessing import ProcessRaisedException

from clq.data.downloads import DownloadError

USER_ERRORS = (ValueError, KeyError, OSError, DownloadError, FloatingPointError)
# The last line of a traceback that names an error, and what follows.
_ERROR = re.compile(r".*^(?:\w+\.)*(?P<name>\w+): (?P<text>.+)", re.MULTILINE | re.DOTALL)


@contextlib.contextmanager
def exit_on_user_error(*, debug: bool = False) -> Iterator[None]:
    """End the program with one sentence on standard error where a user's input is at fault.

    Args:
        debug: let the error through, with its traceback.

    Raises:
        SystemExit: of code 1 after such an error, of code 130 after Ctrl-C.
    """
    try:
        yield
    except KeyboardInterrupt:
        print(
            "\nInterrupted; train_net.py --resume goes on at the last checkpoint.", file=sys.stderr
        )
        sys.exit(130)
    except (*USER_ERRORS, ProcessRaisedException) as error:
        text = _sentence(error)
        if debug or text is None:
            raise
        sys.exit(f"error: {text}")


def _sentence(error: Exception) -> str | None:
    """The text of a user's error; None if a process that was launched failed by another."""
    if isinstance(error, ProcessRaisedException):  # it has the other process's traceback as text
        found = _ERROR.fullmatch(str(error).rstrip())
        kind = {**vars(builtins), "DownloadError": DownloadError}.get(
            found["name"] if found else ""
        )
        is_users = isinstance(kind, type) and issubclass(kind, USER_ERRORS)
        return found["text"] if found and is_users else None
    # The text of a KeyError is the repr of its argument.
    return str(error.args[0] if isinstance(error, KeyError) and error.args else error)
