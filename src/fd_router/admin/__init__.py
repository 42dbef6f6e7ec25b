"""The operator's commands: what they ask of a running router, the doctor, the bundle."""
