"""Metrics with intervals that respect patients, comparison, calibration, operating points, galleries."""
