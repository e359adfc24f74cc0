"""What loading an application left open that must not be shared by forked workers."""

import os
import socket
import sys
import threading

from mgr_host import errors


def snapshot():
    return {"threads": set(threading.enumerate()), "nameless": set(nameless_threads()),
            "descriptors": descriptors()}


def since(before):
    """Phrases for people; empty where nothing was left."""
    found = [f"thread '{thread.name}'" for thread in threading.enumerate()
             if thread not in before["threads"]]
    found += [f"thread without a name in {function}()"
              for ident, function in nameless_threads().items() if ident not in before["nameless"]]
    for descriptor, target in sorted(descriptors().items()):
        if before["descriptors"].get(descriptor) == target:
            continue
        if target == "anon_inode:[eventpoll]":
            found.append(f"epoll descriptor {descriptor}")
        elif target.startswith("socket:"):
            phrase = describe_socket(descriptor)
            if phrase:
                found.append(phrase)
    return found


def nameless_threads():
    """Those that `threading` does not know (_thread), and the function that each began with."""
    known = {thread.ident for thread in threading.enumerate()}
    found = {}
    for ident, frame in sys._current_frames().items():
        if ident not in known:
            while frame.f_back is not None:
                frame = frame.f_back
            found[ident] = frame.f_code.co_qualname
    return found


def descriptors():
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with errors.ignored(OSError):
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def describe_socket(descriptor):
    with errors.ignored(OSError), socket.socket(fileno=os.dup(descriptor)) as copy:
        if copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return f"listening socket {address(copy.getsockname())}"
        with errors.ignored(OSError):
            peer = copy.getpeername()
            # A socketpair has no names; that of an event loop comes with its epoll descriptor.
            return f"connected socket to {address(peer)}" if peer else None
    return None


def address(name):
    if isinstance(name, bytes):
        return "unix:@" + name[1:].decode(errors="replace")
    if isinstance(name, str):
        return "unix:" + name
    host, port = name[0], name[1]
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
