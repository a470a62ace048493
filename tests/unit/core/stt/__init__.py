"""Speech sessions without IO."""
