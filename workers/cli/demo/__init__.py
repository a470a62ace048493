"""`demo`: a story on the terminal that checks itself. Exit code 0 only if each check held."""
