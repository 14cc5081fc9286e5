"""One refresh as one transaction: the theory of operation. The modules of this folder follow it.

A refresh token can be spent once. Spending it twice can end its whole family, and an answer that is lost ends the
connection. Many coroutines, processes and hosts want to spend the same one. So a refresh is a transaction over three
parties that can each fail: this process, the store, and the authorization server.

**What is stored.** A record for each organization (`stores.Record`, its secret part: `payload`). A *family* is a random
id for each connection: all refresh tokens that follow from one grant. `generation` grows with each new token and is
never used again; a family's first is Unix time, so that of two connections the newer one has the higher numbers, even
with an emptied store between them. `version` grows with each write, and every write is a compare-and-swap on it
(`record` has each change as a pure function). A *lease* is the right to send: a nonce, with an end by the store's clock
(`lease`).

    status                    what it means                               what a caller of `token` gets
    (no record), disconnected not connected; a tombstone keeps the        UnknownOrganizationError
                              generation, so that none is used twice
    connecting                a pasted refresh token is a *candidate*     its first use is tried
                              and has not proved itself
    connected                 a family that works                         its token, refreshed where due
      with a lease            a peer may be sending                       waits for the peer, or for the lease's end
      with `maybe_spent`      a request was sent whose answer was not     as connected; a resend waits for `quiet`
                              read
      with `not_before`       attempts failed; N hosts together do not    TemporarilyUnavailable until then
                              try more often than one
    reauthorization_required  the server refused this refresh token       ReauthorizationRequired

**One refresh** (`refresh`), for all callers of an organization in this process (`single_flight`):

1. *Look.* Read the store. If it lost what this process had committed, write that back.
2. *Adopt.* If what is stored satisfies the callers, that is all; nothing is sent.
3. *Wait.* If a peer holds the lease, look again until it has written or its lease is over. Ahead of time, nobody waits.
4. *Rotate* (`rotation`): take the lease (`lease`). If another holder may have sent, *hold off* (`hold_off`): watch the
   store for `quiet` seconds, and for longer than a holder needs to find the store again and save; time in which the
   store cannot be seen does not count. Write once more, look at the lease right before the bytes leave; send.
5. *Commit* (`commit`): compare-and-swap on family and generation, also where a peer has the lease by then: an answer is
   never thrown away, nor is it where the store forgot the record meanwhile, or where the family beside which a
   candidate was tried has gone on (`spend`). It is durable before any caller sees the token. While the store fails it
   is *owed*: one prober looks for the store every second or two and saves all of it.
6. *Publish*, and wake the callers.

**What an answer means** (`_oauth.verdict` has it as a table).

    answer                                        means                         then
    could not connect                             not sent                      again at once, then back off
    a 2xx in which a new refresh token is found   spent and answered            commit, complain of its form after
    connection reset                              maybe spent, cannot arrive    mark it; again at once
    no answer, 5xx, a 2xx that cannot be read     maybe spent, may yet arrive   mark it; again after `quiet`
    429, a page of a proxy, a redirect            not now                       wait out a short Retry-After; back off
    invalid_request                               a peer, a proxy, or expired   once more; refused only if 30 days old
    invalid_client                                perhaps a fault there         a few tries, then back off
    invalid_grant about the client or a setting   nothing about the token       back off
    invalid_grant, token_inactive                 the server will not take it   look for a peer's; else mark refused

**A 401 of the API** (`rejections`) is believed by what the API took before. Rotations for it are counted in the record.

**What cannot be read** (`payload`), damaged or under a key that is not given here, is still a record: its version and
generation hold, so that a new connection takes its place and a disconnect its secrets. Nothing else overwrites it but
what is newer: an answer to its own refresh token. A candidate that is refused gives its place back: others may read it.

**A store** is trusted to be a store, and no further (`guarded_store`): what it raises is a StoreError; a record that is
absent or older than what this process knows is one that was lost, since a disconnect leaves a tombstone; a time to wait
for that no host can have meant was written by one whose clock is off.

**What is promised.** While a request may still arrive, its refresh token is not sent again. Between the return of a
store and the first byte of a successor, every holder that can reach the store has saved. Only the server's own words
about a refresh token end a connection. A token that callers see is on disk, or a CRITICAL line says that it is not. A
caller that is cancelled, or times out, ends nothing for others. What a killed process may have sent is remembered by
its lease: who takes that over assumes the worst.
"""
