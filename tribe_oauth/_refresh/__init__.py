"""One refresh as one transaction."""
