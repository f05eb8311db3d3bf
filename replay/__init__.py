"""The past: reading topics, auditing the books."""
