"""KV events: what engines publish of their prefix caches, followed over ZeroMQ."""
