"""A lab: several nodes on one machine, for demonstrations, documents and tests. Real agents, real traffic, no virtual machine.

::

    topology   what a person writes               shape    what the options of `lab up` come to   ┐
    plan       every machine, cable and address   routes   and every next hop                      │ pure
    cuts       what keeps machines apart          network  the network that pods are on            ┘

    machine    a set of namespaces that stands for a computer, and what runs there
    underlay   switch, cables, addresses, routes
    store      where the agents keep what they share       speaker  BGP on routers
    node       an agent on a machine              pods     containers on a node, with the server `web`
    reach      who gets an answer from whom
    ────────────────────────────────────────────────────────────────────────────────────────────────
    record     what is remembered of a lab        grow     and how a change changes that
    build      machines as a plan wants them      work     what they are there for
    lab        the acts: up, add, stop, start, partition, heal, down
    report     a lab as it is now                 picture  and as text

Whatever is made lives in namespaces that the lab made, or in its directory under the run directory: ending each machine's
first process and removing the directory leaves nothing.
"""
