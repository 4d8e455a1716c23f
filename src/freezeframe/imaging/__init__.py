"""From file to array: decoding, preparation, and the worker processes that do both."""
