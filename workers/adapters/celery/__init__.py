"""What we say to Celery: messages out (`bell`), results with their failures (`backend`)."""
