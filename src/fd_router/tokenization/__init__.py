"""Exact tokens of a prompt: tokenizer service and in-process tokenizer."""
