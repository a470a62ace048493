"""The service in one loop under a virtual clock: what any schedule of deaths, pauses and lost replies may do to it."""
