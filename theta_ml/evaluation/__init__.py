"""Candidate against champion: bits per byte on frozen conversations, and the gate."""
