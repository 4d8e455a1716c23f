"""What a hospital runs: opens a checked bundle and answers, without torch."""
