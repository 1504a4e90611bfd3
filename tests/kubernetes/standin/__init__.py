"""A small API server that stands in for Kubernetes's own: as much of it as a store uses, and no more honest than the tests
that run on both.

::

    server    paths and verbs: HTTP in, HTTP out            ─┐
    gate      who asks, and what he may; what was asked       │
    faults    what goes wrong on purpose                      ├─ one process, one thread, nothing on disk
    objects   create, update, patch, delete as Kubernetes do  │
    history   objects by kind, revisions, what a watch needs ─┘
    resources which kinds there are; custom ones by their definitions
    schema    structural schemas: checked, pruned             apply    fields and who owns them
"""
