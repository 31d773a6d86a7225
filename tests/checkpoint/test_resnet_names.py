"""Names of a ResNet's tensors, each written out."""

import pytest

from clq.checkpoint.resnet_names import from_torchvision_name

NAMES = {
    "conv1.weight": "stem.conv1.weight",
    "bn1.running_var": "stem.conv1.norm.running_var",
    "layer3.22.bn3.bias": "res4.22.conv3.norm.bias",
    "layer4.0.downsample.0.weight": "res5.0.shortcut.weight",
    "layer2.0.conv2_offset.weight": "res3.0.conv2_offset.weight",
    "layer2.0.conv2.conv_offset.weight": "res3.0.conv2_offset.weight",
    "layer5.0.conv1.weight": None,
    "conv1.0.weight": None,
    "bn1.num_batches_tracked": None,
}


@pytest.mark.parametrize("name", NAMES)
def test_names_of_torchvision(name: str):
    assert from_torchvision_name(name) == NAMES[name]
