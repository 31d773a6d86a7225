"""The study on real data: what each part of CLQ is worth, in AP and in time."""

import clq.cli  # noqa: F401  sets how PyTorch runs, before that is imported
