"""``fd-router top``: the fleet in a terminal, followed as the dashboard follows it."""
