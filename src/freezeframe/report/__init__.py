"""The report: figures, tables and one self-contained HTML page, in English and Spanish."""
