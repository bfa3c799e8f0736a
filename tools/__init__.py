"""What operators run from a checkout: how a stage stands, calls of its functions, contracts."""
