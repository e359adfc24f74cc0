"""What Python says when a fatal signal ends the process: into a memfd, which the supervisor reads
afterwards, so that it is one record of the log, whole among those of other processes."""

import faulthandler
import os

_words = -1


def keep_for(process):
    """`process`: the Mold or Worker that this process is."""
    global _words
    before, _words = _words, os.memfd_create("mgr-last-words")
    faulthandler.enable(_words)
    process.last_words(_words)
    if before >= 0:
        os.close(before)


def in_forked_child():
    """Nobody would read those of a process that the application forks."""
    faulthandler.enable(2)


os.register_at_fork(after_in_child=in_forked_child)
