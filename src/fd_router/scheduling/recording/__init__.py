"""Recording: what policies were given and what they chose, as numbers, so that it can be recomputed and tried anew."""
