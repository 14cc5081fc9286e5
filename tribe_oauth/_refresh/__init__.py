"""One refresh as one transaction: the theory of operation. The modules of this folder follow it.

A refresh token can be spent once. Spending it twice can end its whole family, and an answer that is lost ends the
connection. Many coroutines, processes and hosts want to spend the same one. So a refresh is a transaction over three
parties that can each fail: this process, the store, and the authorization server.

**What is stored.** A record for each organization (`stores.Record`, its secret part: `payload`). A *family* is a random
id for each connection: all refresh tokens that follow from one grant. `generation` grows with each new token and is
never used again; `version` grows with each write, and every write is a compare-and-swap on it (`record` has each change
as a pure function). A *lease* is the right to send: a nonce, with an end by the store's clock (`lease`).

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
4. *Rotate* (`rotation`): take the lease; wait for `quiet` if an earlier request may still arrive; look at the lease
   once more right before the bytes leave; send.
5. *Commit* (`commit`): compare-and-swap on family and generation, whoever has the lease by then: an answer is never
   thrown away. It is durable before any caller sees the token. While the store fails, saving goes on.
6. *Publish*, and wake the callers.

**What an answer means** (`_oauth.verdict` has it as a table).

    answer                                        means                         then
    could not connect                             not sent                      again at once, then back off
    200 with a token                              spent and answered            commit
    connection reset                              maybe spent, cannot arrive    mark it; again at once
    no answer, 5xx, a 2xx that cannot be read     maybe spent, may yet arrive   mark it; again after `quiet`
    429, a page of a proxy, a redirect            not now                       back off
    invalid_request                               a peer races, or expired      look again; once more; then refused
    invalid_client                                perhaps a fault there         a few tries, then back off
    invalid_grant, token_inactive                 the server will not take it   look for a peer's; else mark refused

**What is promised.** While a request may still arrive, its refresh token is not sent again. Only the server's own words
about a refresh token end a connection. A token that callers see is on disk, or a CRITICAL line says that it is not. A
caller that is cancelled, or times out, ends nothing for others. What a killed process may have sent is remembered by
its lease: who takes that over assumes the worst.
"""
