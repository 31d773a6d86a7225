"""COCO JSON files: read, validate and register; Pascal VOC annotations."""
