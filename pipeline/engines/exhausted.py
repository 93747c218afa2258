"""Whether an exception says that memory ran out: libraries say so in many words, and few have a class for it."""

import re

# torch's words and vLLM's own; then the C++ library's, and oneDNN's, which says no more when its buffers do not fit.
NO_MEMORY = re.compile(
    r"out of memory|(allocate|available|free) memory|available kv cache memory"
    r"|bad_alloc|could not create a (primitive(?! desc)|memory)"
)


def out_of_memory(error: BaseException) -> bool:
    """torch raises OutOfMemoryError on a GPU, a bare RuntimeError on a CPU; vLLM's own checks raise ValueError."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError | ValueError) and bool(NO_MEMORY.search(str(error).lower()))
