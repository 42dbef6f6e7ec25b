"""Streams that survive their instance: what is kept of them, and how another instance goes on."""
