"""Options: declared once, loaded from file, environment and flags, checked, documented."""
