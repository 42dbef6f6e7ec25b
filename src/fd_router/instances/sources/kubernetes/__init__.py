"""Pods of a Kubernetes cluster as instances: what a Pod says, the API server, and the watch that follows it."""
