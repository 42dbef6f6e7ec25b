"""Recordings of a running router: read, recomputed, and made traces of."""
