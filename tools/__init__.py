"""What operators run from a checkout: how a stage stands, its preconditions, contracts."""
