"""Checks of a data set: its json, its images, and how its boxes suit the detector."""
