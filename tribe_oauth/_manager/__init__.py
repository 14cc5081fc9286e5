"""The public manager and what it is made of: sessions, the ways in, settings, the middleware."""
