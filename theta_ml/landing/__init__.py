"""The landing zone: Postgres tables that conversations arrive in, and the frozen view a run takes of them."""
