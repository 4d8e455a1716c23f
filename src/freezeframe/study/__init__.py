"""Many trainings that answer one question: grids, searches, learning curves; what they share is computed once."""
