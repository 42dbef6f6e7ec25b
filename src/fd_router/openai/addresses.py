"""Where bytes lie in memory: a part of a buffer tells so at which place of it it begins, however long it is.

By the buffer protocol of CPython's C API. NumPy tells it as well, but takes a router that needs it for nothing else
some time to start, and 12 MB.
"""

from __future__ import annotations

import ctypes
from typing import Final


class _Buffer(ctypes.Structure):
    """``Py_buffer``."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.py_object),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )


_get, _release = ctypes.pythonapi.PyObject_GetBuffer, ctypes.pythonapi.PyBuffer_Release
_get.argtypes = (ctypes.py_object, ctypes.POINTER(_Buffer), ctypes.c_int)
_release.argtypes = (ctypes.POINTER(_Buffer),)

_SIMPLE: Final = 0  # PyBUF_SIMPLE


def address_of(data: bytes | memoryview) -> int:
    """Return the address of the first of these bytes, 0 when there is none."""
    buffer = _Buffer()
    _get(data, ctypes.byref(buffer), _SIMPLE)
    address: int = buffer.buf or 0
    _release(ctypes.byref(buffer))
    return address
