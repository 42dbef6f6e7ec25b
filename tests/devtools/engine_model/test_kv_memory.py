from fd_router.devtools.engine_model.kv_memory import KvMemory
from fd_router.devtools.engine_model.prompts import Prompt
from fd_router.devtools.engine_model.runs import Run


def run(tokens, blocks=()):
    return Run(Prompt(tokens, list(blocks), 10), 1, None, 0.0)


def take(memory, *args):
    request = run(*args)
    held = memory.take(request, 0, is_alone=False)
    if held is not None:
        memory.keep(request)
    return request, held


def test_blocks_that_two_requests_share_are_counted_once():
    memory = KvMemory(100, is_shared=True)
    take(memory, 25, [1, 2])
    assert memory.free == 75
    _, held = take(memory, 27, [1, 2])
    assert (held, memory.free) == (20, 68)


def test_what_is_released_stays_cached_until_it_is_needed():
    memory = KvMemory(100, is_shared=True)
    first, _ = take(memory, 40, [1, 2, 3, 4])
    memory.release(first)
    assert (memory.free, memory.used_tokens) == (100, 40)
    take(memory, 80, [5, 6, 7, 8, 9, 10, 11, 12])
    assert memory.match(first.prompt) == 20  # two blocks had to go, from the chain's end


def test_one_that_does_not_fit_has_to_wait_unless_it_is_alone():
    memory = KvMemory(100, is_shared=True)
    first, _ = take(memory, 60, [1, 2, 3, 4, 5, 6])
    assert take(memory, 50)[1] is None
    memory.release(first)
    assert take(memory, 50)[1] == 0
    assert KvMemory(100, is_shared=True).take(run(500), 0, is_alone=True) == 0


def test_generated_tokens_take_memory():
    memory = KvMemory(100, is_shared=True)
    request, _ = take(memory, 20, [1, 2])
    memory.grow(request, 30)
    assert memory.free == 50
    memory.release(request)
    assert (memory.free, memory.used_tokens) == (100, 20)


def test_a_prompt_that_was_never_computed_is_not_cached():
    memory = KvMemory(100, is_shared=True)
    request = run(20, [1, 2])
    memory.take(request, 0, is_alone=True)
    memory.release(request)
    assert (memory.match(request.prompt), memory.used_tokens) == (0, 0)


def test_a_cache_alone_is_not_taken_from():
    memory = KvMemory(20, is_shared=False)
    first, _ = take(memory, 1000, [1, 2, 3])
    second, held = take(memory, 1000)
    assert held == 0
    memory.release(first)
    memory.release(second)
    assert memory.used_tokens == 20
