"""Traces: spans of requests, in the context that clients and instances share with the router (W3C Trace Context)."""
