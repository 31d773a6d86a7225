#!/usr/bin/env python
"""Tell what is wrong with a data set: the same as `clq check`."""

from clq.cli.check import main

if __name__ == "__main__":
    main()
