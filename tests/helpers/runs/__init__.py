"""Runs of the code, in a place of their own."""
