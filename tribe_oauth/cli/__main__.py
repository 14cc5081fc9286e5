"""``python -m tribe_oauth.cli``."""

from tribe_oauth.cli import main

main()
