"""What a command line can ask for: one module a mode."""
