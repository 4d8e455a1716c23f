"""The outbox: every object reaches every destination that takes it, once."""
