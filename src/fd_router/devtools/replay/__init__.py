"""``fd-router replay``: a trace sent to a running router."""
