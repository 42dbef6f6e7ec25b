"""What a mock instance answers beside completions: a file for each kind of endpoint."""
