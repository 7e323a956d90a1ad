"""A recording read again."""
