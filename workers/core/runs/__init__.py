"""What every kind of run has: timing, the frame of a machine, its actions and facts. Pure."""
