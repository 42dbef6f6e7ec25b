"""What several routers of one fleet know together: a view of what the others do, and the buses that carry it."""
