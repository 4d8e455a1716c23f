"""Where images come from: the manifest, its sources, splits and checks."""
