"""The OpenAI protocol: reading a request body, splicing JSON."""
