"""Backbones: networks by name, their weights, what trains, and the cut between frozen and trained."""
