"""Measurements, as ratios of things done in the same run on the same machine."""
