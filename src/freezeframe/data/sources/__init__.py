"""Readers of class folders, tables and DICOM files."""
