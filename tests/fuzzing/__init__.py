"""Random inputs for the whole command line: `make fuzz`."""
