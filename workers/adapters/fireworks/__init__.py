"""The provider, spoken to over its own wire: `codec` and `errors` are pure, the rest holds the sockets."""
