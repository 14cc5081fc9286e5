"""An emulated Tribe, to develop and test against: no account needed, nothing leaves the machine.

It shares no protocol code with the library, so that it can be an independent witness: the ledger says what really
happened to every token. Faults can be ordered.
"""

from tribe_oauth.sandbox._application import environment
from tribe_oauth.sandbox._faults import Fault
from tribe_oauth.sandbox._ledger import Call, Event, Family, Ledger
from tribe_oauth.sandbox._profiles import PROFILES
from tribe_oauth.sandbox._remote import Remote, RemoteFault
from tribe_oauth.sandbox._rules import ApiRules
from tribe_oauth.sandbox._server import Sandbox
from tribe_oauth.sandbox._webhooks import Delivery

__all__ = [
    "PROFILES",
    "ApiRules",
    "Call",
    "Delivery",
    "Event",
    "Family",
    "Fault",
    "Ledger",
    "Remote",
    "RemoteFault",
    "Sandbox",
    "environment",
]
