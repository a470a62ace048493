"""What every store of conversations promises, held against each implementation of the port."""
