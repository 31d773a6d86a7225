#!/usr/bin/env python
"""Detect objects in images and videos: the same as `clq predict`."""

from clq.cli.predict import main

if __name__ == "__main__":
    main()
