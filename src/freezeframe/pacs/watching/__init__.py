"""What is watched: metrics, health, the log, drift."""
