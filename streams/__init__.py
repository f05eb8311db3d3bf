"""The decisions: deterministic rules over records and tables."""
