"""What `theta up` starts on one machine, and how it is kept alive, looked at and ended."""
