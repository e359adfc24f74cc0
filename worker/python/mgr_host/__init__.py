"""The host of Python applications: what is not on a request's path (boot, loading, lifespan, the
asyncio loop's class, tracebacks). The path of a request is C++, in _mgr_core."""
