"""libnftables, by ctypes: text in, one transaction, the library's words if it was refused."""

from __future__ import annotations

import ctypes
import errno
import os
import re
from functools import cache

from fairlead.kernel.errors import KernelError, Unsupported
from fairlead.kernel.netlink import NETFILTER, Netlink
from fairlead.kernel.nft.wire import ours

_LIBRARY = "libnftables.so.1"
_ERRORS = {os.strerror(number): number for number in errno.errorcode}
_REASON = re.compile(r"Error: (?:Could not process rule: )?([^;:\n]+)")


def run(text: str) -> str:
    """Run nft commands as one transaction in the calling thread's namespace; return what they print.

    A context belongs to the namespace it was made in and keeps what it listed, so each call has its own: 0.1 ms.
    """
    library = _library()
    # The library's parser is not known to be safe in two threads; to have nobody else at work is what ``ours`` is for.
    with Netlink(NETFILTER) as nl, ours(nl):
        context = library.nft_ctx_new(0)
        if not context:
            raise KernelError.of(errno.ENOMEM, "start libnftables")
        try:
            library.nft_ctx_buffer_output(context)
            library.nft_ctx_buffer_error(context)
            refused = library.nft_run_cmd_from_buffer(context, text.encode())
            output = library.nft_ctx_get_output_buffer(context).decode(errors="replace")
            words = library.nft_ctx_get_error_buffer(context).decode(errors="replace").strip()
        finally:
            library.nft_ctx_free(context)
    if refused:
        raise KernelError.of(_number(words), "change nftables", words)
    return str(output)


def _number(words: str) -> int:
    """The errno behind the library's message; it is only given as text."""
    for reason in _REASON.findall(words):
        if number := _ERRORS.get(reason.strip()):
            return number
    return errno.EINVAL


@cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise Unsupported(errno.ENOSYS, "use nftables", f"{_LIBRARY} is missing: install the package libnftables1") from error
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    library.nft_ctx_free.argtypes = [ctypes.c_void_p]
    library.nft_ctx_free.restype = None
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    for name in ("output", "error"):
        getattr(library, f"nft_ctx_buffer_{name}").argtypes = [ctypes.c_void_p]
        get = getattr(library, f"nft_ctx_get_{name}_buffer")
        get.argtypes = [ctypes.c_void_p]
        get.restype = ctypes.c_char_p
    return library
