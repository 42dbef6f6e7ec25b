"""The dashboard: one page for a browser, and the events that keep it up to date while somebody looks."""
