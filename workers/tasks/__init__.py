"""The doorbells: what Celery can ring. Each hands its message on and returns what came of it."""
