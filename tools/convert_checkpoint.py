#!/usr/bin/env python
"""Turn trained weights into a checkpoint of CLQ: the same as `clq convert`."""

from clq.cli.convert import main

if __name__ == "__main__":
    main()
