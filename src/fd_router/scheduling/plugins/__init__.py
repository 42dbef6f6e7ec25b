"""Policies by their names: finding, checking and building a class; adapting and guarding one that is a plug-in."""
