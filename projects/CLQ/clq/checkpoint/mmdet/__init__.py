"""Released checkpoints and configs of mmdetection, as CLQ names them."""
