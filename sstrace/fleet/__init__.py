"""Many hosts' lines in one engine: its tables, and a line as a row of them."""
