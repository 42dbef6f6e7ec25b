"""Instances without GPUs: the engine model and the mock instance that serves it over HTTP."""
