"""Time what is ours beside its peers; ``benchmarks/speed.py`` is the command."""
