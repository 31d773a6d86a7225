#!/usr/bin/env python
"""Train on photographs of trees in a few minutes: the same as `clq demo`."""

from clq.cli.demo import main

if __name__ == "__main__":
    main()
