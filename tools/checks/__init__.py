"""The preconditions of a stage, by system. No check writes anything, and none hides another."""
