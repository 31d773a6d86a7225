"""User errors are one-line messages; others keep their traceback."""

import logging
import traceback
from collections.abc import Iterator

import pytest
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from clq.engine import exit_on_user_error, user_errors
from clq.engine.user_errors import defer_peer_errors, suppress_user_error_tracebacks
from clq.utils.wheel_download import DownloadError

# Messages of gloo, NCCL and the rendezvous store when a peer has exited.
PEER_FAILURES = (
    "[gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:16574.",
    "Read error [127.0.0.1]:16574: Connection reset by peer",
    "writev [127.0.0.1]:16574: Broken pipe",
    "NCCL error: remote process exited or there was a network error, NCCL version 2.27",
    "failed to recv, got 0 bytes. Connection was likely closed. Did the remote server shutdown?",
)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("too large"),
        FileNotFoundError("too large"),
        DownloadError("too large"),
        FloatingPointError("too large"),
    ],
)
def test_a_user_error_is_one_line(error: Exception):
    with pytest.raises(SystemExit) as leaving, exit_on_user_error():
        raise error
    assert leaving.value.code == "error: too large"  # Python prints it and exits with 1


def test_an_error_of_the_system_names_the_file():
    with pytest.raises(SystemExit) as leaving, exit_on_user_error():
        open("/dev/null/results.json")
    assert leaving.value.code == (
        "error: /dev/null/results.json can't be read or written (Not a directory)."
    )


def failed_process(error: Exception) -> ProcessRaisedException:
    """Return the error that PyTorch raises when a process that it started has failed."""
    try:
        raise error
    except type(error):
        text = f"\n\n-- Process 1 terminated with the following error:\n{traceback.format_exc()}\n"
    return ProcessRaisedException(text, 1, 12345)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("ValueError: is in the text"), "ValueError: is in the text"),
        (FileNotFoundError(2, "No such file", "x.pth"), "[Errno 2] No such file: 'x.pth'"),
        (DownloadError("no network"), "no network"),
        (
            FloatingPointError("Loss became NaN!\nloss_dict = {}"),
            r"Loss became NaN!\nloss_dict = {}",
        ),
    ],
)
def test_a_user_error_of_another_process_is_one_line(error: Exception, message: str):
    with pytest.raises(SystemExit) as leaving, exit_on_user_error():
        raise failed_process(error)
    assert leaving.value.code == f"error: {message}"


def test_a_bug_in_another_process_keeps_its_traceback():
    with pytest.raises(ProcessRaisedException, match="bug"), exit_on_user_error():
        raise failed_process(TypeError("bug"))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        *(
            (RuntimeError(text), "another process of the run ended; its log may tell why.")
            for text in PEER_FAILURES
        ),
        (
            ProcessExitedException("died", 1, 12345, -9, "SIGKILL"),
            "a process of the run was ended by SIGKILL; the same command with --resume goes on at "
            "the last checkpoint.",
        ),
    ],
)
def test_the_exit_of_another_process_is_one_line(error: Exception, message: str):
    with pytest.raises(SystemExit) as leaving, exit_on_user_error():
        raise error
    assert leaving.value.code == f"error: {message}"


@pytest.mark.parametrize(
    "error",
    [RuntimeError("wrong shape"), ProcessExitedException("left", 1, 12345, 3)],
)
def test_other_failures_keep_their_traceback(error: Exception):
    with pytest.raises(type(error)), exit_on_user_error():
        raise error


@pytest.mark.parametrize(
    ("error", "delays_of_first", "delays_of_others"),
    [
        (ValueError("too large"), [], [5]),
        (DownloadError("no network"), [], [5]),
        (RuntimeError(PEER_FAILURES[0]), [10], [10]),
        (RuntimeError("out of memory"), [], []),
        (TypeError("bug"), [], []),
        (SystemExit(143), [], []),
    ],
)
def test_peers_report_later(
    error: BaseException,
    delays_of_first: list[float],
    delays_of_others: list[float],
    monkeypatch: pytest.MonkeyPatch,
):
    for is_first, expected in ((True, delays_of_first), (False, delays_of_others)):
        waits: list[float] = []
        monkeypatch.setattr(user_errors.time, "sleep", waits.append)
        with pytest.raises(type(error)) as raised, defer_peer_errors(is_first=is_first):
            raise error
        assert raised.value is error and waits == expected


def test_debug_raises_the_error():
    with pytest.raises(ValueError, match="too large"), exit_on_user_error(debug=True):
        raise ValueError("too large")


def test_a_bug_keeps_its_traceback():
    with pytest.raises(TypeError), exit_on_user_error():
        raise TypeError("bug")


def test_ctrl_c_says_how_to_resume(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as leaving, exit_on_user_error():
        raise KeyboardInterrupt
    assert leaving.value.code == 130
    assert "--resume" in capsys.readouterr().err


def test_nothing_happens_without_an_error():
    with exit_on_user_error():
        pass


# Detectron2's trainer logs an error here before it raises it.
TRAIN_LOOP = logging.getLogger("detectron2.engine.train_loop")


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    before = TRAIN_LOOP.filters[:]
    yield caplog
    TRAIN_LOOP.filters = before


def log_failure(error: Exception) -> None:
    try:
        raise error
    except type(error):
        TRAIN_LOOP.exception("Exception during training:")


def test_the_log_has_a_user_error_in_one_line(lines: pytest.LogCaptureFixture):
    suppress_user_error_tracebacks()
    suppress_user_error_tracebacks()
    assert len(TRAIN_LOOP.filters) == 1
    log_failure(ValueError("100% too large"))
    (record,) = lines.records
    assert record.getMessage() == "The training ended: 100% too large"
    assert record.exc_info is None and "Traceback" not in lines.text


@pytest.mark.parametrize("text", PEER_FAILURES)
def test_the_log_has_no_traceback_of_a_peer_failure(text: str, lines: pytest.LogCaptureFixture):
    suppress_user_error_tracebacks()
    log_failure(RuntimeError(text))
    (record,) = lines.records
    assert record.getMessage() == "Another process of the run ended; its log may tell why."
    assert record.exc_info is None


def test_the_log_has_the_traceback_of_a_bug(lines: pytest.LogCaptureFixture):
    suppress_user_error_tracebacks()
    log_failure(TypeError("bug"))
    assert "Exception during training:" in lines.text and "TypeError: bug" in lines.text
    log_failure(RuntimeError("wrong shape"))
    assert "RuntimeError: wrong shape" in lines.text
    TRAIN_LOOP.warning("no error")
    assert lines.records[-1].getMessage() == "no error"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), "NUM_WORKERS"),
        (RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly"), "NUM_WORKERS"),
        (
            RuntimeError(
                "Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback:\n"
                "RuntimeError: unable to write to file </torch_1_2_3>: No space left on device (28)"
            ),
            "NUM_WORKERS",
        ),
        (RuntimeError("received 0 items of ancdata"), "NUM_WORKERS"),
        (OSError(24, "Too many open files"), "ulimit -n"),
        (MemoryError(), "IMS_PER_BATCH"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "IMS_PER_BATCH"),
    ],
)
def test_what_memory_and_descriptors_decide_is_said_with_how_to_go_on(error: Exception, said: str):
    with pytest.raises(SystemExit) as leaving, exit_on_user_error():
        raise error
    sentence = str(leaving.value.code)
    assert sentence.startswith("error: ") and said in sentence and "\n" not in sentence
    with pytest.raises(SystemExit) as leaving, exit_on_user_error():
        raise failed_process(error)
    assert "DataLoader" not in str(error) or said in str(leaving.value.code)
