"""The installed Celery and kombu against our pool, transport and control: real workers, real servers."""
