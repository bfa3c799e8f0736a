"""The reconciliation service: the proof, every night, that source and bucket agree."""
