"""A running trace: hooks, perf buffers, the table that they keep, owners."""
