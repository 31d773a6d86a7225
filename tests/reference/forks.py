"""Programs that start at once, since they are forks of a process that has imported what they need.

A process of their own takes seconds to import PyTorch and Detectron2. The process that is forked
has imported those and the package, and run nothing else; scripts find what a user's would.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path

from reference.tiny import ROOT, process_environment

START_METHOD = "forkserver"
_CONTEXT = multiprocessing.get_context(START_METHOD)
_CONTEXT.set_forkserver_preload([f"clq.cli.{name}" for name in ("train", "predict", "check")])


class ForkedProgram:
    """A program that runs on CPU, and whose standard error and output are kept."""

    def __init__(
        self,
        program: Path | str,
        *arguments: object,
        stdout: Connection | Path | None = None,
        cwd: Path = ROOT,
    ) -> None:
        """Start the program.

        Args:
            program: a script, or code as after ``python -c``.
            arguments: of the command line.
            stdout: where its output goes, if it is not to be kept.
            cwd: folder it runs in.
        """
        self._folder = tempfile.TemporaryDirectory()
        self._files = [Path(self._folder.name) / name for name in ("stdout", "stderr")]
        outputs = [stdout or self._files[0], self._files[1]]
        texts = [str(argument) for argument in arguments]
        self.process = _CONTEXT.Process(target=_run, args=(program, texts, outputs, cwd))
        self.process.start()

    def wait(self, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Wait for its end, and return its exit code and what it printed."""
        self.process.join(timeout)
        code = self.process.exitcode
        self.process.kill()
        assert code is not None, f"it did not end in {timeout} s"
        printed = [file.read_text() if file.exists() else "" for file in self._files]
        self._folder.cleanup()
        return subprocess.CompletedProcess([], code, *printed)


def _run(
    program: Path | str, arguments: list[str], outputs: list[Connection | Path], cwd: Path
) -> None:
    """Be the program from here on."""
    for number, target in enumerate(outputs, start=1):
        mode = os.O_WRONLY | os.O_CREAT
        source = os.open(target, mode) if isinstance(target, Path) else target.fileno()
        os.dup2(source, number)
    os.environ.update(process_environment())
    os.chdir(cwd)
    tests = {str(ROOT), str(ROOT / "tests"), str(ROOT / "tools")}
    sys.path[:] = [path for path in sys.path if path not in tests]
    sys.argv = ["-c" if isinstance(program, str) else str(program), *arguments]
    if isinstance(program, str):
        exec(compile(program, "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.path.insert(0, str(program.parent))
        runpy.run_path(str(program), run_name="__main__")
