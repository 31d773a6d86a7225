#!/usr/bin/env python
"""Train and evaluate CLQ: the same as `clq train` and, with --eval-only, `clq eval`."""

from clq.cli.train import main as run
from clq.engine.run import run_in_process as main

__all__ = ["main", "run"]

if __name__ == "__main__":
    run()
