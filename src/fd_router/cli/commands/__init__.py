"""The sub-commands, a file each, whose ``command`` ``cli/router.py`` names. Starting a router imports none of them."""
