"""The bundle: the one folder that is deployed. Making it needs torch, running it (`runtime`) does not."""
