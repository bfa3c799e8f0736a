"""A simulator of CloudWatch in simulated time, modelled on AWS's documentation of alarms."""
