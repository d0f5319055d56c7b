"""What a message to the engineers says; not how it travels."""
