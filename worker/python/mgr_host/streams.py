"""The application's standard output and standard error, which workers share."""

import io
import sys

from mgr_host import errors

# Longest line, or text of several lines such as a traceback, that is one write.
LONGEST = 64 * 1024


def keep_lines_whole():
    """A line is written when it ends, by one write: nothing of another worker comes in between, and
    a crash loses no line that was printed before it. Also where $PYTHONUNBUFFERED asks for no
    buffer at all, so that lines come at once, and print() makes two writes of each. The streams of
    before stay as they are, for who has taken them already (sitecustomize)."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, io.TextIOWrapper):
            continue
        with errors.ignored(OSError, ValueError):  # it is no file
            stream.reconfigure(line_buffering=True)
            whole = beside(stream, name)
            setattr(sys, name, whole)
            setattr(sys, f"__{name}__", whole)


def beside(stream, name):
    raw = io.FileIO(stream.fileno(), "w", closefd=False)
    raw.name = f"<{name}>"
    whole = io.TextIOWrapper(io.BufferedWriter(raw, LONGEST), stream.encoding, stream.errors,
                             newline="\n", line_buffering=True)
    whole.mode = "w"
    return whole


def flush():
    """What a stream still holds would be written again by each worker."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with errors.ignored(OSError, ValueError):
                stream.flush()
