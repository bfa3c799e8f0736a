"""Code that services share; it imports no service. Each system has a package of its own."""
