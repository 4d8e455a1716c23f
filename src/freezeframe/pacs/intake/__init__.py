"""How images come in: DIMSE, STOW-RS, a folder, pulling; each is durable before it is acknowledged."""
