"""The Kubernetes API as a store, behind the interface of ``store.base``.

::

    store      get, list, commit: objects                         ┐
    watch      events, across broken and silent connections       │
    presence   names that are held, by Leases                     ├─ resources  which kind lies where, and how names are spelt
    status     what a node has to say of an object                ┘  objects    between the API's trees and our values
    ─────────────────────────────────────────────────────────────
    client     one question: patience, politeness, who is asking
    access     where the API is, from a kubeconfig or from inside of a pod
    trust      certificates                      credentials   tokens, and programs that make them
    errors     what the API refuses, in people's words
    discovery  whether a kind is there in a version that is not known here
"""
