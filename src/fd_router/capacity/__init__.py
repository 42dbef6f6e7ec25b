"""How much an instance may be given: limits, headroom, slow start, circuit breakers, count audit."""
