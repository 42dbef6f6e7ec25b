"""Moving bytes: the server and upstream protocols, the pool, and the exchange that owns one request's life."""
