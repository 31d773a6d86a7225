"""The mean over processes that normalises the losses."""

from pathlib import Path

import torch

from clq.engine import launch
from clq.modeling.normalizer import mean_over_processes
from reference.family import MEMBERS
from reference.members import losses_of
from reference.tiny import free_url
from reference.workers import save_losses, save_mean


def test_one_process_keeps_the_values_and_detaches_them():
    values = torch.tensor([3.0, 0.0], requires_grad=True)
    mean = mean_over_processes(values * 2)
    assert mean.tolist() == [6.0, 0.0] and not mean.requires_grad


def test_two_processes_get_the_mean_and_keep_their_own_values(tmp_path: Path, cpu_only: None):
    launch(save_mean, 2, dist_url=free_url(), on_cuda=False, args=(tmp_path,))
    first, second = (torch.load(tmp_path / f"mean{rank}.pth") for rank in range(2))
    assert first["mean"].tolist() == second["mean"].tolist() == [2.5, 4.0]  # (1+4)/2, (10-2)/2
    assert first["values"].tolist() == [1.0, 10.0]  # the all-reduce works on a copy
    assert not first["mean"].requires_grad


def test_losses_of_two_processes_average_to_those_of_one(tmp_path: Path, cpu_only: None):
    """Every member, though the second process has no object: both divide by the same."""
    launch(save_losses, 2, dist_url=free_url(), on_cuda=False, args=(tmp_path,))
    for member in MEMBERS:
        first, second = (torch.load(tmp_path / f"{member}{rank}.pth") for rank in (0, 1))
        whole = losses_of(member, slice(0, 2))
        assert set(first) == set(second) == set(whole)
        assert second["loss_box_reg"] == 0 < first["loss_box_reg"]
        for name, loss in whole.items():
            torch.testing.assert_close((first[name] + second[name]) / 2, loss)
