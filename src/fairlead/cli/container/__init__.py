"""A small runtime: one command in a network namespace of its own.

``order`` says what to make, ``launch`` makes it and undoes it, ``spawn`` starts the command, ``monitor`` waits for one that
was detached, ``record`` remembers it in the run directory, ``roster`` lists it together with other runtimes' containers.
It has no images and no process isolation: the command sees the host's files and processes, but has a network, a host
name, ``/etc/hosts`` and ``/etc/resolv.conf`` of its own.
"""
