"""The mock instance's prefill and decode roles."""
