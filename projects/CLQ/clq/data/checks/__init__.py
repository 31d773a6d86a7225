"""What is wrong or odd in a data set: its json, its images, and how its boxes suit the detector."""
