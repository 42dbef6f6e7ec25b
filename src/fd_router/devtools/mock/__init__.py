"""The mock instance: an engine model behind a real HTTP server, faults on demand."""
