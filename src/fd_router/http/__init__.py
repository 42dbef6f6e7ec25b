"""Bytes: connections of clients and to instances, heads, pools, limits, deadlines."""
