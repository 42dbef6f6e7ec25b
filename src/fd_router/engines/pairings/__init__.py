"""The protocols of vLLM and SGLang by which prefill instances hand KV caches to decode instances."""
