"""What is deployed, held together: Procfile, Dockerfile, compose, k8s, monitoring. Nothing here needs a daemon."""
