"""Counting the operators on which a GPU's host would wait."""

from torch.profiler import ProfilerActivity, profile


def host_waits(run) -> list[str]:
    """Operators that a call runs on which a GPU's host would wait.

    Indexing by a boolean mask shows as nonzero. The profiler sees the backward pass as it is,
    which a dispatch mode does not.
    """
    blocking = ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::unique")
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        run()
    return [event.name for event in profiler.events() if event.name.startswith(blocking)]
