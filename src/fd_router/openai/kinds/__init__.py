"""The kinds of inference endpoints: a file each, with their bodies, their usage, their errors."""
