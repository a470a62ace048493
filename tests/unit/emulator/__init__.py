"""The provider's stand-in without its sockets."""
