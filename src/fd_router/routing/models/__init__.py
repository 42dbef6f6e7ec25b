"""Which model serves a request, where the fleet serves several: names, aliases, splits, fallbacks, and their groups."""
