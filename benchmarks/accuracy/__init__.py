"""The study on real data: what each part of CLQ is worth, in AP and in time."""
