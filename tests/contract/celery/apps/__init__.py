"""Small Celery apps that the contract tests start as `python -m celery -A ... worker`."""
