"""A mail that is ready to go, and where it waits until it has gone; what it says stands with whoever writes it."""
