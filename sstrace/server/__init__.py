"""The live table for others: who serves, and who asks."""
