"""Forward pass of the head against the reference arrays."""

import pytest
import torch

from clq.modeling import joint_scores
from reference.devices import on_device
from reference.golden import golden, golden_detector, heads_with, levels


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("name", heads_with("cls_score_l0", "forward"))
def test_golden_head_forward(name):
    arrays = golden(f"head_{name}_forward")
    detector = golden_detector(name).eval()
    alpha = detector.head.quality.test_alpha
    with torch.no_grad():
        logits, dists, quality = on_device(detector.head)(levels(arrays, "feat"))
    for level, (c, d, q) in enumerate(zip(logits, dists, quality)):
        scores = joint_scores(c.movedim(1, -1), q.movedim(1, -1), alpha)[0].exp()
        expected = arrays[f"cls_score_l{level}"][:, : detector.num_classes].movedim(1, -1)
        torch.testing.assert_close(scores, expected, rtol=5e-5, atol=5e-5)
        torch.testing.assert_close(d, arrays[f"bbox_pred_l{level}"], rtol=5e-5, atol=5e-5)
        torch.testing.assert_close(q, arrays[f"quality_logit_l{level}"], rtol=5e-5, atol=5e-5)
        distances = detector.box2box_transform.distances(d)
        torch.testing.assert_close(distances, arrays[f"integral_l{level}"], rtol=5e-5, atol=5e-5)
