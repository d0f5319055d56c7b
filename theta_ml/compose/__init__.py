"""Theta in containers: what docker-compose.yaml leaves to code."""
