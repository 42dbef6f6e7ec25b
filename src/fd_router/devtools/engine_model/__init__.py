"""A model of an inference engine: prefill, decode, prefix cache."""
