"""Batches without IO."""
