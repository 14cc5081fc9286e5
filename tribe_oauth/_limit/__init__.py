"""The API's limit of calls, kept and not discovered: theory of operation. For `_manager`, and `reservation` for `sync`.

The API takes so many calls (`calls`) of one client and organization in any so many seconds (`seconds`), as it counts
them when they arrive. A *slot* is the right to one of them. It is held from before a request is sent until `seconds`
after the head of its answer came: whenever the API counted it, that moment lies between, so that no transit time and no
clock of the server matters. Without an answer it is held for `quiet` longer: for so long it may still arrive.

    module        what it is for
    rate_limit    the rule, as the caller gives it, and what of it each kind of request may have
    line          who waits for a slot, in which order; and what follows from a 429
    window        the slots of one process, in memory: exact
    ledger        the slots of all processes that share a store, as a value: no clock, no store
    kept          the ledger as a store keeps it, by compare-and-swap
    block         some slots that one process took from the ledger at once, for the requests of about a second
    shared        the same as `window`, for all processes: blocks out of the ledger
    limits        one line for each client and organization that sends something, for one manager
    reservation   a slot that is taken before the request is made, as an export does

**Who goes first.** Requests that a person waits for, before those of an export (`background`). Where both wait, the
export keeps a twentieth of the slots, or people at 120 % would leave it nothing. `share` is what an export may have of
the limit where nobody else waits: the rest is free at once for people.

**A 429 all the same**: somebody else spends the budget. The organization stops, in all processes, for a minute or for
Retry-After; then one request goes, the *probe*. Refused again, the next stop takes twice as long; taken, all go on.
What was in flight when it stopped changes nothing. No other organization slows down.

**Where a store is shared**, so is the ledger. A block is taken for about a second's need, and nothing is sent from it
later. It ends, by the store's clock alone, `COVER` and `seconds` after it was taken, for the case that its process
dies; is renewed while a request of it is in flight; and ends `seconds` after its last answer. What was not used goes
back. While the store is away, a process goes on with as many slots as it held when the store was last seen.
"""
