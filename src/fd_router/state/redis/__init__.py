"""The bus between replicas: a Redis or Valkey server."""
