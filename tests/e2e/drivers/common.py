# What every driver's program begins with.
import asyncio
import inspect
import os
import threading

DSN = os.environ["DSN"]
URL = os.environ["URL"]
WRITES = os.environ["PACK"] == "read-write"


def fails(kind, what):
    """The error of `kind` that `what` ends with."""
    try:
        what()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


async def fails_later(kind, what):
    """The same of something to await."""
    try:
        await what
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


def run(module):
    """Every function whose name begins with `can_`, in order; those that end in `_write` only where that is permitted."""
    for name, case in list(module.items()):
        if not name.startswith("can_") or (name.endswith("_write") and not WRITES):
            continue
        try:
            asyncio.run(case()) if inspect.iscoroutinefunction(case) else case()
        except BaseException:
            print("failed:", name, flush=True)
            raise
    print("done")
