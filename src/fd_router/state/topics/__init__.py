"""What is shared, one subject a file."""
