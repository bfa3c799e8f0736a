"""The AWS stand-in: moto as a server, functions that really run, and `sls` deploying to it."""
