"""The demo: one training run on tree crowns, its numbers and its figures."""
