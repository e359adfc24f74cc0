# The first code of mgr in the application's interpreter. Whatever Python this is (2.7 and PyPy
# included), it must be able to read this file, and to say why it is not fit.
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def refuse(reason):
    launcher = os.path.join(os.path.dirname(HERE), "mgr-worker")
    os.execv(launcher, [launcher, "--refuse", reason])


def unfit():
    version = "%d.%d.%d" % sys.version_info[:3]
    name = getattr(getattr(sys, "implementation", None), "name", "cpython")
    if hasattr(sys, "pypy_version_info") or name != "cpython":
        return "%s is %s; mgr needs CPython 3.11 or newer" % (sys.executable, name)
    if sys.version_info < (3, 11):
        return "%s is Python %s; mgr needs CPython 3.11 or newer" % (sys.executable, version)
    if "t" in getattr(sys, "abiflags", ""):
        return "%s is a free-threaded build of Python %s, which mgr does not support" % (
            sys.executable, version)
    return None


def is_musl():
    import sysconfig

    return "musl" in (sysconfig.get_config_var("SOABI") or "") + (
        sysconfig.get_config_var("HOST_GNU_TYPE") or "")


def main():
    reason = unfit()
    if reason:
        refuse(reason)
    try:
        import _mgr_core
    except ImportError as error:
        if is_musl():
            refuse("%s is linked with musl; mgr needs a Python linked with glibc" % sys.executable)
        refuse("%s cannot load mgr's extension: %s" % (sys.executable, error))
    from mgr_host import boot

    sys.path.remove(HERE)
    try:
        mold = _mgr_core.Mold()
    except Exception as error:
        refuse("%s: %s" % (sys.executable, error))
    sys.exit(boot.run(mold))
