"""freezeframe."""
