"""Trace a network for batches of any size, by ``torch.export``."""

import contextlib
import logging
import warnings
from collections.abc import Iterator

import torch
from torch import fx, nn
from torch.export import Dim, ExportedProgram

# Sides of the traced image in units of the divisor. They differ, and the coarsest level has more
# than one row and column, since a side of 1 is taken for a constant, as is a batch of 1.
_ROWS, _COLUMNS = 5, 9
# Modules whose windows make the sizes of maps an endless calculation.
_ONE_SIZE = ("SwinTransformerBlock", "SwinTransformerV2Block")
_MOST = 4096  # images, or units, that a side may have


def trace(
    network: nn.Module, size_divisor: int, fixed_size: tuple[int, int] | None
) -> ExportedProgram:
    """Trace a network on a batch of blank images.

    Args:
        network: in evaluation mode, from images (N, 3, H, W).
        size_divisor: of heights and widths, in pixels.
        fixed_size: the only height and width; None for any.

    Raises:
        ValueError: PyTorch can't export it.
    """
    height, width = fixed_size or (_ROWS * size_divisor, _COLUMNS * size_divisor)
    dims = {0: Dim("batch", min=1, max=_MOST)}
    if fixed_size is None:
        for axis, name in ((2, "height"), (3, "width")):
            dims[axis] = size_divisor * Dim(f"_{name}", min=1, max=_MOST)
    images = torch.zeros(2, 3, height, width)
    try:
        with quiet(), torch.no_grad():
            program = torch.export.export(network, (images,), dynamic_shapes=(dims,))
    except Exception as error:  # PyTorch has many ways to say that a network is none
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(". :")
        hint = "" if fixed_size else "; --size H W exports it for one size alone"
        raise ValueError(f"PyTorch can't export this network ({reason}){hint}.") from error
    for module in program.graph_module.modules():  # that of autocast is a module in it
        for node in module.graph.nodes if isinstance(module, fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)  # lines of this program, with its path here
    return program


def check_any_size(model: nn.Module) -> None:
    """
    Raises:
        ValueError: the network is one that ``torch.export`` does not come to an end over.
    """
    for module in model.modules():
        if type(module).__name__ in _ONE_SIZE:
            raise ValueError(
                f"the network has a {type(module).__name__}, which PyTorch exports for one size of "
                "images alone; give it by --size H W, or size=(H, W)."
            )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drop warnings and log messages of exporters, about which a user can do nothing."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
