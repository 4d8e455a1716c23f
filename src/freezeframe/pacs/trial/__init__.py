"""A PACS on this machine to try the node against: for the demo and the tests."""
