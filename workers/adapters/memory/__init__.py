"""The ports in memory: shipped, held to the same conformance suites as the real ones."""
