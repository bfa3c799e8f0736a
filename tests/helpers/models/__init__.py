"""Models of the protocols, every schedule of them explored, and the code answered from a script."""
