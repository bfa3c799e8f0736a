"""Tables of every type, and sessions that write to them."""
