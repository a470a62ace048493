"""What the acceptance tests run beside the service: tools inside a worker, and a service of tools elsewhere."""
