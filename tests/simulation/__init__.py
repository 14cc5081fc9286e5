"""F13: hosts, a store, a network and an authorization server in one process, on virtual time, all of it from a seed."""
