"""Training of the suffix, live or from the store, in one code path."""
