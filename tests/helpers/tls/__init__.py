"""A front that speaks TLS before the embedded server, and its certificates."""
