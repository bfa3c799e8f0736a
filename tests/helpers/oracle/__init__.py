"""What must have landed, worked out without the code that lands it."""
