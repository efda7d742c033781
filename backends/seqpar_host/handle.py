"""The one XLA FFI handler behind all trampolines (xla.py), compiled by numba.

Offsets are in words of 64 bits, from the structs that xla.py checks in the header of the jaxlib at hand; the sizes that
the frame itself announces are checked at every call.
"""

from seqpar_host.job import number
from seqpar_host.launch import CALL_WORDS, ask_for_huge_pages, call, peek, poke, stack, start

PLAN, THREADS, VERSION, MESSAGE, NO_MEMORY, OPERANDS, RESULTS, TABLE = range(8)
METADATA_EXTENSION, EXECUTE, EXHAUSTED, INTERNAL = 1, 3, 8, 13
LOW = 0xFFFFFFFF
FRAME_EXTENSION, FRAME_API, FRAME_STAGE, FRAME_ARGS, FRAME_RETS = 1, 2, 4, 5, 10
LIST_BYTES, BUFFER_BYTES = 40, 48
ERROR_WORDS = 4
PAGE, HUGE = 4096, 4 << 20


def handle(frame: int, target: int) -> int:
    """0, or an XLA_FFI_Error*."""
    words = number(target)
    extension = peek(frame + 8 * FRAME_EXTENSION)
    while extension != 0:
        if peek(extension + 8) & LOW == METADATA_EXTENSION:
            # Registration: XLA asks which version of the interface this is.
            metadata = peek(extension + 24)
            poke(metadata + 24, peek(words + 8 * VERSION))
            poke(metadata + 32, 0)
            return 0
        extension = peek(extension + 16)
    if peek(frame + 8 * FRAME_STAGE) & LOW != EXECUTE:
        return 0
    args, rets = frame + 8 * FRAME_ARGS, frame + 8 * FRAME_RETS
    count, more = peek(words + 8 * OPERANDS), peek(words + 8 * RESULTS)
    sound = peek(args) >= LIST_BYTES and peek(rets) == peek(args)
    sound = sound and peek(args + 16) == count and peek(rets + 16) == more
    block = stack(CALL_WORDS)
    for index in range(CALL_WORDS):
        poke(block + 8 * index, 0)
    if sound:
        for index in range(count + more):
            if index < count:
                buffer = peek(peek(args + 32) + 8 * index)
            else:
                buffer = peek(peek(rets + 32) + 8 * (index - count))
            elements = 1
            if peek(buffer) < BUFFER_BYTES:
                sound = False
            else:
                for dim in range(peek(buffer + 32)):
                    elements *= peek(peek(buffer + 40) + 8 * dim)
            entry = words + 8 * TABLE + 24 * index
            sound = sound and elements == peek(entry + 8)
            if sound:
                memory, size = peek(buffer + 24), peek(entry + 16)
                poke(block + 8 * (2 + peek(entry)), memory)
                if size >= HUGE:
                    # XLA allocates results afresh and this kernel touches them first: 64 MB cost 35 ms in small pages, 8 in huge.
                    first = (memory + PAGE - 1) // PAGE * PAGE
                    ask_for_huge_pages(first, (memory + size - first) // PAGE * PAGE)
    message, code = peek(words + 8 * MESSAGE), INTERNAL
    if sound:
        poke(block, peek(words + 8 * PLAN))
        if start(block, peek(words + 8 * THREADS)) == 0:
            return 0
        message, code = peek(words + 8 * NO_MEMORY), EXHAUSTED
    api = peek(frame + 8 * FRAME_API)
    error = stack(ERROR_WORDS)
    poke(error, 8 * ERROR_WORDS)
    poke(error + 8, 0)
    poke(error + 16, message)
    poke(error + 24, code)
    return call(peek(api + 48), error)
