"""The life of a mold, from its first Python code to its workers' exit status."""

import gc
import os
import sys
import time

from mgr_host import hooks, last_words, left_open, load, nested, serve, streams


def run(mold):
    """Loads the application if the order says so, then forks a worker whenever it is told to.

    Returns an exit status: in a worker its own, in the mold after a failed load. A mold whose
    supervisor is gone ends here.
    """
    last_words.keep_for(mold)
    settings = mold.settings
    prepare_interpreter(settings)
    try:
        nested.require(settings["loop"])
    except load.Failure as failure:
        mold.load_failed(failure.stage, failure.error, failure.traceback, 4)
        return 4
    application = None
    if settings["load"]:
        application = load_in_mold(mold, settings)
        if application is None:
            return 4
    else:
        mold.loaded(sys.executable, version(), "", 0, [])
    gc.collect()
    gc.freeze()  # what is loaded by now stays shared between the workers
    while mold.receive():
        streams.flush()
        worker = mold.fork()
        if worker is not None:
            return serve.run(worker, application, settings)
    os._exit(0)


def prepare_interpreter(settings):
    sys.argv[:] = ["mgr"]
    if sys.path and sys.path[0] == "":
        del sys.path[0]
    sys.path[:0] = [os.path.abspath(path) for path in settings["python_path"]] + [os.getcwd()]
    streams.keep_lines_whole()


def load_in_mold(mold, settings):
    before = left_open.snapshot()
    started = time.monotonic()
    try:
        application = load.load(settings["app"], settings["interface"])
        hooks.call_loaded(hooks.Hooks(settings["hooks"], mold.log, generation=settings["generation"]))
    except load.Failure as failure:
        streams.flush()
        mold.load_failed(failure.stage, failure.error, failure.traceback, 4)
        return None
    finally:
        mold.restore_signals()
    duration = round((time.monotonic() - started) * 1000)
    mold.loaded(sys.executable, version(), application.interface, duration,
                left_open.since(before))
    return application


def version():
    return "%d.%d.%d" % sys.version_info[:3]
