"""The bus between the workers of one host: a hub in their supervisor."""
