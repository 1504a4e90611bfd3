"""etcd: the store that several nodes share, behind the interface of ``store.base``.

::

    store      get, list, commit: objects                  ┐
    watch      events, across broken connections           ├─ keys      where what is kept
    presence   names that are held, by leases              ┘
    slots      exactly one commit, however often it was sent
    ─────────────────────────────────────────────────────────
    gateway    one question to one of several members: failover, deadlines, TLS, who is asking
    messages   etcd's messages as values                      errors    its refusals in people's words
"""
