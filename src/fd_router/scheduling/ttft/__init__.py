"""The ttft_aware policy: predicting and minimizing time to first token."""
