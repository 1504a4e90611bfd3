"""eBPF: objects loaded by libbpf, maps, programs and the ring buffer over bpf(2).

::

    Object    an .o file, its maps found or made, its programs verified      libbpf, by ctypes
    Map       lookup, update, delete, every entry in batches                  bpf(2)
    Program   what the kernel knows of it, a test run on a packet             bpf(2)
    tcx.Link  a program at an interface, for as long as the link is held      bpf(2)
    Ring      what programs tell, read from shared memory                     mmap(2)

Everything here is a file descriptor that the caller closes; what is pinned (``fs``) outlives the process. ``kernel.route`` puts
programs on interfaces as filters, which belong to the interface.
"""

from fairlead.kernel.bpf import tcx
from fairlead.kernel.bpf.map import RINGBUF, Map, MapInfo
from fairlead.kernel.bpf.object import Object
from fairlead.kernel.bpf.program import Program, ProgramInfo
from fairlead.kernel.bpf.ring import Ring

__all__ = ["RINGBUF", "Map", "MapInfo", "Object", "Program", "ProgramInfo", "Ring", "tcx"]
