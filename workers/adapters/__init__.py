"""One folder per outside thing: each implements ports and keeps that thing's exceptions to itself."""
