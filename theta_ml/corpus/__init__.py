"""From a snapshot's conversations to packed token arrays."""
