"""Beat as processes, with a Redis that is killed."""
