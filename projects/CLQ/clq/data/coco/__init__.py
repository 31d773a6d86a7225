"""COCO JSON files and what is read as one: validate and register."""
