"""A chat turn without IO: what the model said, what its tools came to, what to do next."""
