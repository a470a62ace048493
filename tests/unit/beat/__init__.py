"""Beat without Redis: the operator's file, and which tick is meant."""
