"""Memory that a look gives back is kept for the next one, where the C library can be told to.

A look makes a dozen arrays of half a megabyte or more. glibc hands such back to the system as soon as they
are freed, and the system clears every page anew for the next look.
"""

from __future__ import annotations

import contextlib
import ctypes

__all__ = ["keep_freed"]

# Of malloc.h; musl and others have no `mallopt`, and go on as they are.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
#: At most so much is kept; larger arrays than this come from the system one by one, as ever.
_KEPT, _LARGE = 32 << 20, 8 << 20


def keep_freed() -> bool:
    """Have this process keep what it frees, up to 32 MiB. Whether the C library took it."""
    taken = False
    with contextlib.suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        taken = all([mallopt(_M_MMAP_THRESHOLD, _LARGE), mallopt(_M_TRIM_THRESHOLD, _KEPT)])
    return taken
