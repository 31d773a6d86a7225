#!/usr/bin/env python
"""Do files of strangers crash, stop or bloat a reader?

Mutates files for the readers of weights, labels, yaml and images, in processes of limited memory,
and writes what was found to benchmarks/results/fuzz.md. The exit code is 1 if a reader failed.

  for an hour     python benchmarks/fuzz.py
  for a minute    python benchmarks/fuzz.py --seconds 60
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks/results/fuzz.md"
TARGETS = ("weights", "json", "labels", "data_yaml", "xml", "yaml", "images")
_ROUND = 60.0  # seconds of a process
_KEEP = 20  # findings that are listed


def main() -> int:
    """Fuzz the readers in turn; the exit code is 1 where one failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=3600, help="default: 3600, an hour")
    seconds = parser.parse_args().seconds
    start, seed, found = time.monotonic(), 0, []
    totals = {target: [0, 0, 0] for target in TARGETS}  # read or refused, refused, failed
    length = min(_ROUND, seconds / len(TARGETS))
    while time.monotonic() - start < seconds:
        for target in TARGETS:
            error, count, refused = _run(target, seed, length)
            totals[target] = [
                a + b for a, b in zip(totals[target], (count, refused, int(bool(error))))
            ]
            if error:
                found.append(f"- {target}, seed {seed}: {error}")
        seed += 1
    rows = [f"| {name} | {a} | {b} | {c} |" for name, (a, b, c) in totals.items()]
    RESULT.write_text(
        "# Fuzzing of the readers\n\n"
        "Mutated files, in processes of 2 GiB beside the imports and 10 s a file; `make fuzz`.\n\n"
        f"- duration: {time.monotonic() - start:.0f} s, {seed} seeds from 0\n"
        f"- machine: {platform.machine()}, {os.cpu_count()} cores; Python "
        f"{platform.python_version()}\n"
        f"- date: {time.strftime('%Y-%m-%d', time.gmtime())}\n\n"
        "| reader | files | refused | failed processes |\n|---|---|---|---|\n"
        + "\n".join(rows)
        + "\n\n## Findings\n\n"
        + ("\n".join(found[:_KEEP]) or "None.")
        + "\n"
    )
    print(RESULT.read_text())
    return int(bool(found))


def _run(target: str, seed: int, seconds: float) -> tuple[str, int, int]:
    """Error of a process, or nothing; files that it read; those of them that were refused."""
    script = str(ROOT / "tests/fuzz/readers.py")
    with tempfile.TemporaryDirectory() as folder:
        arguments = [target, str(seed), str(seconds), str(10**9), folder]
        command = [sys.executable, "-W", "ignore", script, *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 120)
        except subprocess.TimeoutExpired:
            return "does not end", 0, 0
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [""]
        return f"exit code {done.returncode}: {lines[-1][:150]}", 0, 0
    count, refused = map(int, done.stdout.split()[-2:])
    return "", count, refused


if __name__ == "__main__":
    sys.exit(main())
