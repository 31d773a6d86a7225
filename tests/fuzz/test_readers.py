"""A few mutated files for each reader: each is read or refused, within bounds."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("readers.py")


TARGETS = ["weights", "json", "labels", "data_yaml", "xml", "yaml", "images"]


def test_no_file_crashes_a_reader(tmp_path: Path):
    names = ",".join(TARGETS)
    command = [sys.executable, "-W", "ignore", str(SCRIPT), names, "0", "2", "30", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [list(map(int, line.split())) for line in done.stdout.splitlines()[-len(TARGETS) :]]
    assert len(rows) == len(TARGETS) and all(count > 0 for count, _ in rows)
    assert rows[0][1] > 0  # damaged weights are refused
