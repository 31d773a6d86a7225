"""Annotations in the formats that tools write: COCO, YOLO and Pascal VOC, read as COCO."""
