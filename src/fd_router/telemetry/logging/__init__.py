"""The log: lines made, buffered, written, rotated."""
