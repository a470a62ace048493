"""What is started as a process for the faults."""
