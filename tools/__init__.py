"""What operators run from a checkout: status, preconditions, calls of the functions, contracts."""
