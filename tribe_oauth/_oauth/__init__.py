"""OAuth 2.0 as Tribe speaks it: values, a client and its grants, messages, the one POST, and what an answer means.

Knows no store and no organization. Only `endpoint` does I/O; only `client` draws randomness.
"""
