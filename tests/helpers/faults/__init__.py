"""What can go wrong, injected."""
