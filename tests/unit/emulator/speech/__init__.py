"""The stand-in's speech part without its sockets."""
