"""The layer of third-party code, and what is done with the zips that are deployed."""
