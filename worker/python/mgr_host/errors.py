"""Exceptions of the application as text."""

import contextlib
import importlib
import os
import traceback

import _mgr_core

ignored = contextlib.suppress

_HERE = os.path.dirname(os.path.abspath(__file__))
_IMPORTLIB = os.path.dirname(os.path.abspath(importlib.__file__))


def is_ours(filename):
    return filename.startswith((_HERE, _IMPORTLIB, "<frozen importlib"))


def full(exception):
    """The traceback as Python prints it, without the host's own frames at its top."""
    frames = exception.__traceback__
    while frames is not None and is_ours(frames.tb_frame.f_code.co_filename):
        frames = frames.tb_next
    exception = exception.with_traceback(frames)
    if isinstance(exception, MemoryError):
        traceback.clear_frames(frames)  # what they hold is what the text needs
    return "".join(traceback.format_exception(exception)).rstrip("\n")


def outside_of_a_request(exception):
    """The same for one that came out of the loop, without the frames that turn it."""
    frames = last = exception.__traceback__
    while frames is not None:
        if frames.tb_frame.f_code.co_filename.startswith(_HERE):
            last = frames.tb_next
        frames = frames.tb_next
    return full(exception.with_traceback(last))


def one_line(exception):
    """`ValueError: what it says`; a SyntaxError names its file and line."""
    name = type(exception).__qualname__
    if isinstance(exception, SyntaxError) and exception.filename:
        return f"{name}: {exception.msg} ({exception.filename}, line {exception.lineno})"
    try:
        text = " ".join(str(exception).split())
    except Exception:
        text = "<exception str() failed>"  # as traceback has it
    return f"{name}: {text}" if text else name


def is_only_a_disconnect(exception):
    """The server's own ClientDisconnected, come back out of the application: as itself, in a group,
    or turned into the framework's exception for it (`except OSError: raise ClientDisconnect()`)."""
    if isinstance(exception, _mgr_core.ClientDisconnected):
        return True
    inner = getattr(exception, "exceptions", None)
    if inner is not None:
        return all(is_only_a_disconnect(each) for each in inner)
    if isinstance(exception.__cause__, _mgr_core.ClientDisconnected):
        return True
    return (isinstance(exception.__context__, _mgr_core.ClientDisconnected)
            and "Disconnect" in type(exception).__name__)
