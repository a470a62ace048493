"""The published document, held against AsyncAPI's own parser."""
