"""Where lines go, and what decides which."""
