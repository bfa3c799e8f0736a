"""What operators run from a checkout: how a stage stands, contracts, RDS certificates."""
