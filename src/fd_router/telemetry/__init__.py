"""What an operator sees: one record a request, and the log lines and metrics made from it."""
