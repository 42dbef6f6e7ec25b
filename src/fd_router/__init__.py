"""fd-router: the load-balancing scheduling router for LLM inference."""

__version__ = "0.1.0"
