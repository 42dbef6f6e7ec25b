"""Who may send requests, how many, and who comes first when all instances are busy. No I/O but the keys' file."""
