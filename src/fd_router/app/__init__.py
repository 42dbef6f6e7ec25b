"""The composition root: builds the router's objects, connects them, starts and stops them."""
