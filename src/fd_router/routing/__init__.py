"""One request's life: queue, attempts, answer, end."""
