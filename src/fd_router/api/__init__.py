"""The endpoints that the router itself answers, one file a group."""
