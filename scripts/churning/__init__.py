"""What scripts/churn is made of. Standard library only."""
