"""From packed rows to a trained candidate."""
