"""When a study is complete, and which of its images are read by which bundle."""
