"""The page that a radiologist opens, and its API."""
