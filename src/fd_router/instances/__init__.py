"""Who can serve: registration, registry, health, loads."""
