"""Taking pieces of a job, and waiting a moment for others: what :mod:`.threads` is built on.

All of it happens outside Python's lock. A thread that sleeps takes 30 to 100 microseconds to wake,
longer than many kernels of a small model run; and it sleeps too when it asks for Python's lock
while another thread has it. So a worker with nothing to do watches for the next job, does not ask
for the lock before that job's owner has let it go, and at the end of the job asks for it only when
the owner waits for that.
"""

from __future__ import annotations

import os
import platform

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.np.arrayobj import make_array

from .compiling import inline, kernel
from .simd import intrinsic
from .threads import BACK, BEGIN, END, FROM_BACK, FROM_FRONT, RELEASED, TAKEN, WATCH, WORKER

_HINTS = {"x86_64": ("llvm.x86.sse2.pause", []), "aarch64": ("llvm.aarch64.hint", [1])}
_HINTS |= {"amd64": _HINTS["x86_64"], "arm64": _HINTS["aarch64"]}
_HINT = _HINTS.get(platform.machine().lower())


@intrinsic
def _look(context, counter, place):
    """``counter[place]`` as it is in memory now."""

    def generate(context, builder, signature, arguments):
        data = make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.load_atomic(builder.gep(data, [arguments[1]]), "acquire", 8)

    return types.int64(counter, types.intp), generate


@intrinsic
def _add_one(context, counter, place):
    """``counter[place]++``, atomically: the number before."""

    def generate(context, builder, signature, arguments):
        data = make_array(signature.args[0])(context, builder, arguments[0]).data
        one = ir.Constant(ir.IntType(64), 1)
        return builder.atomic_rmw("add", builder.gep(data, [arguments[1]]), one, "acq_rel")

    return types.int64(counter, types.intp), generate


@intrinsic
def _pause(context):
    """Tell the processor that this is a waiting loop."""

    def generate(context, builder, signature, arguments):
        if _HINT is not None:
            name, numbers = _HINT
            word = ir.IntType(32)
            hint = ir.FunctionType(ir.VoidType(), [word] * len(numbers))
            function = builder.module.declare_intrinsic(name, (), hint)
            builder.call(function, [ir.Constant(word, n) for n in numbers])
        return context.get_dummy_value()

    return types.void(), generate


# Where a core is shared with the one that is waited for, waiting must not keep it from running.
_yield = types.ExternalFunction("sched_yield", types.intc()) if os.name == "posix" else None


@inline
def _wait(turn):
    if _yield is not None and turn % 256 == 255:
        _yield()
    else:
        _pause()


@inline
def take(counter):
    """The number of a piece that nobody else has; at the end one that is too high.

    The owner of a job takes pieces from the front, workers take them from the back: neighboring
    rows then stay with the same core from kernel to kernel, and in its cache. At the end a worker
    lingers until the owner, who is done too, waits for it.
    """
    begin = _look(counter, BEGIN)
    end = _look(counter, END)
    piece = _add_one(counter, TAKEN) - begin
    if counter.size == WORKER:
        if piece < end:
            piece = end - 1 - _add_one(counter, FROM_BACK)
        else:
            for turn in range(WATCH):
                if _look(counter, RELEASED) == begin:
                    break
                _wait(turn)
    elif piece < end:
        piece = counter[FROM_FRONT]
        counter[FROM_FRONT] = piece + 1
    return piece


@kernel(lambda t: (t.counter, t.integer, t.flag))
def rest(counter, seen, worked):
    """Until a job has begun that is not the one ``seen``; ``worked`` says that one was just done.

    That the first piece of it has been taken means that its owner has let Python's lock go.
    """
    if worked:
        _add_one(counter, BACK)
    for turn in range(WATCH):
        begin = _look(counter, BEGIN)
        if begin != seen and _look(counter, TAKEN) > begin:
            break
        _wait(turn)


@kernel(lambda t: (t.counter, t.integer))
def await_workers(counter, back):
    """Until ``back`` times a worker has come back from a job."""
    counter[RELEASED] = counter[BEGIN]
    for turn in range(WATCH):
        if _look(counter, BACK) >= back:
            break
        _wait(turn)
