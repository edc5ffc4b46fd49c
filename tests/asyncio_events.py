"""Kernels in an asyncio loop, through rk_event_fd and nothing but ctypes: tests/asyncio_events.py LIBRINGKERNEL.SO

Every awaited operation is a future that rk_poll's event resolves; the loop is told by loop.add_reader and never waits in the library.
"""

import asyncio
import ctypes
import os
import sys
import threading
import time
from ctypes import POINTER, Structure, byref, c_char_p, c_int, c_int32, c_size_t, c_uint32, c_uint64, c_void_p, sizeof

OK = 0
FOREVER = 2**64 - 1
LAUNCHED, TERMINATED, REPLY, STATE = 1, 2, 3, 5
WATCH_STATE = 2
STATE_TERMINATED = 5
FAILURE = 77  # what a handler of ours fails with
FAIL, GATE = 1000, 1001  # types of messages


class Kernel(Structure):
    _fields_ = [("id", c_uint64)]


class Op(Structure):
    _fields_ = [("id", c_uint64)]


class Timestamp(Structure):
    _fields_ = [("physical_ns", c_uint64), ("logical", c_uint32), ("node", c_uint32)]


class Message(Structure):
    _fields_ = [
        ("payload", c_void_p), ("payload_size", c_size_t), ("type", c_uint32), ("block", c_uint32),
        ("correlation", c_uint64), ("source", c_uint64), ("deadline_ns", c_uint64), ("timestamp", Timestamp),
        ("lease", c_uint64),
    ]  # fmt: skip


class Event(Structure):
    _fields_ = [
        ("kind", c_uint32), ("status", c_int32), ("user_data", c_uint64), ("op", Op), ("kernel", Kernel),
        ("state", c_uint32), ("flags", c_uint32), ("message", Message),
    ]  # fmt: skip


Handler = ctypes.CFUNCTYPE(c_int32, c_void_p, POINTER(Message))


class Program(Structure):
    _fields_ = [
        ("struct_size", c_uint32), ("flags", c_uint32), ("name", c_char_p), ("on_message", Handler),
        ("on_start", c_void_p), ("on_stop", c_void_p), ("user_data", c_void_p), ("drop_user_data", c_void_p),
        ("cuda_code_kind", c_uint32), ("cuda_code", c_void_p), ("cuda_code_size", c_size_t), ("cuda_handler", c_char_p),
        ("state_size", c_size_t), ("reserved", c_uint64 * 8),
    ]  # fmt: skip


rk = ctypes.CDLL(sys.argv[1])
rk.rk_status_name.restype = c_char_p
rk.rk_runtime_create.argtypes = [c_void_p, POINTER(c_void_p)]
rk.rk_runtime_destroy.argtypes = [c_void_p]
rk.rk_program_register.argtypes = [c_void_p, POINTER(Program)]
rk.rk_event_fd.argtypes = [c_void_p, POINTER(c_int)]
rk.rk_poll.argtypes = [c_void_p, POINTER(Event), c_size_t, c_uint64, POINTER(c_size_t)]
rk.rk_cancel.argtypes = [c_void_p, Op]
rk.rk_release.argtypes = [POINTER(Message)]
rk.rk_watch.argtypes = [Kernel, c_uint32, c_uint64]
rk.rk_launch_async.argtypes = [c_void_p, c_char_p, c_void_p, c_uint64, POINTER(Op)]
rk.rk_terminate_async.argtypes = [Kernel, c_uint64, c_uint64, POINTER(Op)]
rk.rk_call_async.argtypes = [Kernel, POINTER(Message), c_uint64, c_uint64, POINTER(Op)]
rk.rk_context_reply.argtypes = [c_void_p, POINTER(Message)]

STATUS = {rk.rk_status_name(code).decode(): code for code in range(0, -1000, -1)}
TIMEOUT, CANCELLED, EMPTY = STATUS["RK_ERR_TIMEOUT"], STATUS["RK_ERR_CANCELLED"], STATUS["RK_ERR_EMPTY"]


class Failed(Exception):
    """What is not RK_OK."""

    def __init__(self, status):
        super().__init__(status)
        self.status = status


def must(status):
    if status != OK:
        raise Failed(status)


def fail(what):
    """Ends the test at once, whatever threads of the library wait in a handler of ours."""
    print(what, flush=True)
    os._exit(1)


def require(condition, what):
    if not condition:
        fail(f"not true: {what}")


gate = threading.Event()


@Handler
def on_message(context, message):
    """Answers with the payload: after `type` milliseconds, or at GATE when that is open."""
    if message[0].type == FAIL:
        return FAILURE
    if message[0].type == GATE:
        gate.wait()
    else:
        time.sleep(message[0].type / 1000)
    return rk.rk_context_reply(context, message)


class Events:
    """A runtime's event queue as futures of the running loop."""

    def __init__(self, runtime):
        self.runtime, self.loop = runtime, asyncio.get_running_loop()
        self.futures, self.states, self.cancelled, self.number = {}, {}, 0, 0
        fd = c_int(-1)
        must(rk.rk_event_fd(runtime, byref(fd)))
        self.fd = fd.value
        self.loop.add_reader(self.fd, self.on_readable)

    def on_readable(self):
        events, count = (Event * 16)(), c_size_t()
        status = rk.rk_poll(self.runtime, events, 16, 0, byref(count))
        # Level-triggered, and readable exactly while events wait: it is never for nothing.
        require(status == OK and count.value > 0, "an event waits when the descriptor is readable")
        for event in events[: count.value]:
            self.on_event(event)

    def on_event(self, event):
        if event.kind == STATE:
            self.states[event.kernel.id] = event.state
            return
        if event.kind not in (LAUNCHED, TERMINATED, REPLY):
            return
        future, _ = self.futures.pop(event.user_data)  # a second completion finds none: KeyError
        text = None
        if event.kind == REPLY and event.status == OK:
            text = ctypes.string_at(event.message.payload, event.message.payload_size)
            must(rk.rk_release(byref(event.message)))
        if future.cancelled():
            self.cancelled += event.status == CANCELLED
        elif event.status != OK:
            future.set_exception(Failed(event.status))
        else:
            future.set_result(text if event.kind == REPLY else event.kernel.id)

    async def operation(self, submit):
        """Submits with a number of ours, and waits for its event; who is cancelled cancels."""
        self.number += 1
        number, op, future = self.number, Op(), self.loop.create_future()
        self.futures[number] = (future, op)
        try:
            must(submit(number, byref(op)))
        except Failed:
            del self.futures[number]
            raise
        try:
            return await future
        except asyncio.CancelledError:
            rk.rk_cancel(self.runtime, op)
            raise

    async def launch(self, name):
        return Kernel(await self.operation(lambda number, op: rk.rk_launch_async(self.runtime, name, None, number, op)))

    async def terminate(self, kernel):
        await self.operation(lambda number, op: rk.rk_terminate_async(kernel, FOREVER, number, op))

    async def call(self, kernel, text, kind=0, timeout_ns=FOREVER):
        request = Message(ctypes.cast(c_char_p(text), c_void_p), len(text), kind)
        return await self.operation(lambda number, op: rk.rk_call_async(kernel, byref(request), timeout_ns, number, op))


async def fails_with(awaitable, status):
    try:
        await awaitable
    except Failed as failed:
        require(failed.status == status, f"status {failed.status} is {status}")
    else:
        fail(f"it should have failed with {status}")


async def many_at_once(events, kernels):
    async def caller(number):
        for turn in range(10):
            text = b"%d/%d" % (number, turn)
            answer = await events.call(kernels[number % len(kernels)], text, number % 3)
            require(answer == text, f"{answer} is the answer to {text}")

    await asyncio.gather(*(caller(number) for number in range(40)))


async def the_loop_goes_on(events, kernel):
    """A call that waits for a long handler does not hold up the loop: it is the loop that lets the handler go on."""
    gate.clear()
    answer = asyncio.ensure_future(events.call(kernel, b"slow", GATE))
    for _ in range(5):
        await asyncio.sleep(0.005)
    require(not answer.done(), "the handler waits")
    gate.set()
    require(await answer == b"slow", "the slow one is answered")


async def failures_and_limits(events, kernel):
    await fails_with(events.call(kernel, b"x", FAIL), FAILURE)
    gate.clear()
    slow = asyncio.ensure_future(events.call(kernel, b"x", GATE))
    await asyncio.sleep(0)  # it is submitted
    await fails_with(events.call(kernel, b"behind it", timeout_ns=20_000_000), TIMEOUT)
    try:
        await asyncio.wait_for(events.call(kernel, b"behind it"), 0.02)
    except asyncio.TimeoutError:
        pass
    else:
        fail("wait_for should have given up")
    gate.set()
    require(await slow == b"x", "the slow one is answered")
    require(await events.call(kernel, b"y") == b"y", "the next call gets its own answer")
    require(events.cancelled == 1, "the call that was given up has completed once, as cancelled")


async def main():
    asyncio.get_running_loop().set_exception_handler(lambda _, context: fail(context))
    runtime, program = c_void_p(), Program()
    must(rk.rk_runtime_create(None, byref(runtime)))
    names = [b"k0", b"k1", b"k2", b"k3"]
    for name in names:
        program.struct_size, program.name, program.on_message = sizeof(Program), name, on_message
        must(rk.rk_program_register(runtime, byref(program)))
    events = Events(runtime)
    kernels = await asyncio.gather(*(events.launch(name) for name in names))
    await fails_with(events.launch(b"k0"), STATUS["RK_ERR_ALREADY_EXISTS"])
    for kernel in kernels:
        must(rk.rk_watch(kernel, WATCH_STATE, 0))
    await many_at_once(events, kernels)
    await the_loop_goes_on(events, kernels[1])
    await failures_and_limits(events, kernels[2])
    await asyncio.gather(*(events.terminate(kernel) for kernel in kernels))
    while any(events.states.get(kernel.id) != STATE_TERMINATED for kernel in kernels):
        await asyncio.sleep(0.001)
    require(not events.futures, "each operation has completed")
    events.loop.remove_reader(events.fd)
    count = c_size_t(9)
    require(rk.rk_poll(runtime, (Event * 1)(), 1, 0, byref(count)) == EMPTY and count.value == 0, "no event is left")
    must(rk.rk_runtime_destroy(runtime))
    print(f"{events.number} operations in an asyncio loop, each completed once")


try:
    asyncio.run(asyncio.wait_for(main(), 120))
except Exception as error:
    fail(repr(error))
