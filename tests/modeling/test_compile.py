"""A compiled network is the same network."""

import copy
from collections.abc import Iterator

import pytest
import torch
from detectron2.structures import Boxes, Instances
from torch import Tensor

from clq.modeling import CLQ, fast_inference_model
from clq.modeling.compile import check_backend, compile_network
from reference.members import build

# PyTorch traces the network as for any other backend, and runs what it traced operator by operator.
BACKEND = "eager"
SMALL = {
    "MODEL.RESNETS.DEPTH": 18,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 64,
    "MODEL.RESNETS.NORM": "FrozenBN",
}


def batch() -> list[dict]:
    """Two images of different size, one with an object."""
    generator = torch.Generator().manual_seed(3)
    samples = []
    for height, width, boxes in ((64, 96, [[10.0, 8.0, 50.0, 40.0]]), (80, 64, [])):
        objects = Instances((height, width))
        objects.gt_boxes = Boxes(torch.tensor(boxes).reshape(-1, 4))
        objects.gt_classes = torch.zeros(len(boxes), dtype=torch.int64)
        image = torch.randint(0, 256, (3, height, width), generator=generator)
        samples.append({"image": image, "instances": objects})
    return samples


def losses_and_gradients(detector: CLQ) -> dict[str, Tensor]:
    detector.zero_grad()
    losses = detector(batch())
    sum(losses.values()).backward()
    gradients = {name: weight.grad for name, weight in detector.named_parameters()}
    return {**losses, **{name: grad for name, grad in gradients.items() if grad is not None}}


@pytest.fixture(scope="module")
def compiled() -> Iterator[CLQ]:
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()  # of other tests in this process
    detector = build("clq", **SMALL).train()
    compile_network(detector, BACKEND)
    yield detector
    torch.compiler.reset()


def test_losses_and_gradients_are_those_of_the_network_as_it_is(compiled: CLQ):
    plain = losses_and_gradients(build("clq", **SMALL).train())
    found = losses_and_gradients(compiled)
    assert len(plain) > 40
    torch.testing.assert_close(found, plain)
    counters = torch._dynamo.utils.counters
    assert counters["stats"]["unique_graphs"] == 2, "backbone and head are a graph each"
    assert not counters["graph_break"]


def test_weights_keep_their_names_and_go_into_any_other_detector(compiled: CLQ):
    plain = build("clq", **SMALL)
    assert list(compiled.state_dict()) == list(plain.state_dict())
    assert list(dict(compiled.named_parameters())) == list(dict(plain.named_parameters()))
    plain.load_state_dict(compiled.state_dict())
    compiled.load_state_dict(plain.state_dict())


def test_a_copy_is_not_compiled_and_infers(compiled: CLQ):
    """As the average of the weights is, and before or after does not matter."""
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    twin = copy.deepcopy(compiled)
    torch.testing.assert_close(losses_and_gradients(twin), losses_and_gradients(compiled))
    with torch.no_grad():
        found, _ = twin.eval()(batch())
    assert len(found["instances"]) > 0
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs


def test_the_fast_detector_can_be_compiled():
    fast = fast_inference_model(build("clq", **SMALL), bf16=False)
    both = (fast, copy.deepcopy(fast))
    compile_network(both[1], BACKEND)
    with torch.no_grad():
        plain, compiled = ([found["instances"] for found in model(batch())] for model in both)
    assert all(len(found) > 0 for found in plain)
    for found, expected in zip(compiled, plain):
        torch.testing.assert_close(found.scores, expected.scores)
    torch.compiler.reset()


def test_a_backend_that_is_not_there():
    with pytest.raises(ValueError) as error:
        check_backend("inductr")
    assert str(error.value).startswith(
        "MODEL.COMPILE.BACKEND is 'inductr'; on this machine it must be "
    )
    assert "'inductor'" in str(error.value) and "\n" not in str(error.value)
    check_backend("inductor")
    check_backend("aot_eager")
