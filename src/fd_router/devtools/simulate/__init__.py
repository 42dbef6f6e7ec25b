"""``fd-router simulate``: policies against a trace."""
