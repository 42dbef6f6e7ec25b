"""Policies that aren't part of the router: loading, guarding, one for each role."""
