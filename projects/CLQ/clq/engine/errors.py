"""What a user can cause, told in one sentence instead of a traceback."""

import contextlib
import sys
from collections.abc import Iterator

from clq.data.downloads import DownloadError

USER_ERRORS = (ValueError, KeyError, OSError, DownloadError, FloatingPointError)


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
    except USER_ERRORS as error:
        if debug:
            raise
        # The text of a KeyError is the repr of its argument.
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        sys.exit(f"error: {text}")
