"""Who serves this one: the policies, and the scheduler that keeps their books. No I/O here."""
