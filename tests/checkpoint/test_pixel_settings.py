"""Input settings of known sources of weights."""

import sys

import pytest

from clq.checkpoint.pixel_settings import PIXEL_KEYS, pixel_settings_of

BGR, RGB = [103.53, 116.28, 123.675], [123.675, 116.28, 103.53]
ZOO = "detectron2://ImageNetPretrained"


@pytest.mark.parametrize(
    ("weights", "values"),
    [
        (f"{ZOO}/MSRA/R-50.pkl", ("BGR", BGR, [1, 1, 1], True)),
        (f"{ZOO}/FAIR/X-101-32x8d.pkl", ("BGR", BGR, [57.375, 57.12, 58.395], False)),
        (f"{ZOO}/torchvision/R-50.pkl", ("RGB", RGB, [58.395, 57.12, 57.375], False)),
        ("clq://timm/resnext101_32x4d.gluon_in1k", ("RGB", RGB, [58.395, 57.12, 57.375], False)),
        # Its own, of half the range.
        ("clq://timm/vit_small_patch16_224.augreg_in1k", ("RGB", *[[127.5] * 3] * 2, False)),
        ("clq://mobilenet_v2.pth", ("RGB", RGB, [58.395, 57.12, 57.375], False)),
    ],
)
def test_known_origins(weights: str, values: tuple):
    assert tuple(pixel_settings_of(weights).values()) == values
    assert tuple(pixel_settings_of(weights)) == PIXEL_KEYS


@pytest.mark.parametrize("weights", ["", "output/model_final.pth", "https://a.org/MSRA/R-50.pkl"])
def test_unknown_origins(weights: str):
    assert pixel_settings_of(weights) == {}


def test_without_timm_its_models_have_the_usual_pixels(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    found = pixel_settings_of("clq://timm/vit_small_patch16_224.augreg_in1k")
    assert found == pixel_settings_of("clq://mobilenet_v2.pth")


def test_nobody_changes_the_table():
    pixel_settings_of("clq://x")["INPUT.FORMAT"] = "BGR"
    assert pixel_settings_of("clq://x")["INPUT.FORMAT"] == "RGB"
