"""Continuations: what of a broken stream was generated, and how another stream's events follow it."""
