"""``fd-router demo``."""
