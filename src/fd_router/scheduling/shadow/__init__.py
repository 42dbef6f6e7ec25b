"""A shadow policy: decides beside the one in force, and nothing follows from it but figures."""
