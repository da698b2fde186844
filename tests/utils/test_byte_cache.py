"""The bounded cache: what was used last stays, within the limit."""
from mmreuse.utils.files.byte_cache import ByteCache


def test_what_was_used_longest_ago_goes_first():
    cache = ByteCache(10)
    for key in 'abc':
        cache.keep(key, key.upper(), 3)
    assert cache['a'] == 'A' and cache.bytes == 9
    cache.keep('d', 'D', 4)
    assert 'b' not in cache and [key for key in 'acd' if key in cache] == ['a', 'c', 'd'] and cache.bytes == 10


def test_what_is_too_large_is_not_kept_and_drops_nothing():
    cache = ByteCache(10)
    cache.keep('a', 'A', 10)
    cache.keep('b', 'B', 11)
    assert 'a' in cache and 'b' not in cache and len(cache) == 1


def test_a_key_is_kept_once():
    cache = ByteCache(10)
    cache.keep('a', 'A', 4)
    cache.keep('a', 'other', 4)
    assert cache['a'] == 'A' and cache.bytes == 4
