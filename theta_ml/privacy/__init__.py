"""What of a conversation may leave the landing tables."""
