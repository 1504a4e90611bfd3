"""A lab: several nodes on one machine, for demonstrations, documents and tests. Real agents, real traffic, no virtual machine.

::

    topology   what a person writes: a file, or what the options of `lab up` come to    ┐
    plan       every machine, interface, address and route of it                        ┘ pure

    machine    a set of namespaces that stands for a computer, and what runs there
    underlay   switch, cables, addresses, routes, and which of them are cut
    store      where the nodes' agents keep what they share
    node       an agent on a machine          pods    containers on a node
    reach      who gets an answer from whom
    ──────────────────────────────────────────────────────────────────────────────────
    record     what is remembered of a lab, so that a later command finds it
    lab        the acts: up, down, add, stop, start, partition, heal
    report     a lab as it is now             picture     and as text

Whatever is made lives in namespaces that the lab made, or in its directory under the run directory: ending each machine's
first process and removing the directory leaves nothing.
"""
