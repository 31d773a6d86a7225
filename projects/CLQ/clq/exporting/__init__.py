"""Export of a detector: one file that needs neither CLQ's model code nor Detectron2.

The package is not called ``export``, since :func:`clq.export` is.
"""
