"""What every store of runs promises, held against each implementation of the port."""
