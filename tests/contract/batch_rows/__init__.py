"""What every store of batch rows promises, held against each implementation of the port `RowStore`."""
