"""Runs and the rules that combine them."""
