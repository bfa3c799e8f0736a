"""The local stage: what the service needs of AWS and of Totesys, on one machine."""
