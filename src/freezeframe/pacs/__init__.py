"""The node: a bundle as a DICOM service beside a hospital's PACS, without torch."""
