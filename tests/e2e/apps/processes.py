"""An application that starts processes: children left behind, orphans, multiprocessing."""

import asyncio
import multiprocessing
import os
import subprocess


def square(number):
    return number * number


def sleep_long():
    import time
    time.sleep(60)


async def text_of(path):
    if path.startswith("/child"):
        # Nobody waits for it; it stays until it is killed.
        return str(subprocess.Popen(["sleep", "60"]).pid)
    if path.startswith("/orphan"):
        # Its parent is gone at once, so a subreaper above inherits it.
        done = subprocess.run(["sh", "-c", "sleep 0.2 & echo $!"], capture_output=True, text=True)
        return done.stdout.strip()
    if path.startswith("/fork"):
        context = multiprocessing.get_context("fork")
        process = context.Process(target=sleep_long, daemon=False)
        process.start()
        return str(process.pid)
    if path.startswith("/pool"):
        with multiprocessing.get_context("fork").Pool(2) as pool:
            return str(await asyncio.to_thread(pool.map, square, range(5)))
    if path.startswith("/asyncio"):
        process = await asyncio.create_subprocess_exec("echo", "spoken", stdout=subprocess.PIPE)
        out, _ = await process.communicate()
        return f"{out.decode().strip()} {process.returncode}"
    return f"{os.getpid()} {path}"


async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    body = (await text_of(scope["path"])).encode()
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
