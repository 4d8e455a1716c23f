"""What the tests of the node share: `orthanc` (a PACS), `certificates`; each part adds its own fixtures."""
