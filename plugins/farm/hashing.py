"""Which bucket a client is in: Linux's jhash, as the filter computes it. Pure."""

from __future__ import annotations

from .layout import Ip

WORD = 0xFFFFFFFF


def _rotate(word: int, bits: int) -> int:
    return (word << bits | word >> (32 - bits)) & WORD


def _lookup3(words: tuple[int, int], start: int) -> int:
    """Bob Jenkins' final mix over at most two words."""
    a, b, c = (words[0] + start) & WORD, (words[1] + start) & WORD, start & WORD
    c = ((c ^ b) - _rotate(b, 14)) & WORD
    a = ((a ^ c) - _rotate(c, 11)) & WORD
    b = ((b ^ a) - _rotate(a, 25)) & WORD
    c = ((c ^ b) - _rotate(b, 16)) & WORD
    a = ((a ^ c) - _rotate(c, 4)) & WORD
    b = ((b ^ a) - _rotate(a, 14)) & WORD
    return ((c ^ b) - _rotate(b, 24)) & WORD


def jhash_1word(word: int, seed: int) -> int:
    """Linux's hash of one 32-bit number."""
    return _lookup3((word, 0), seed + 0xDEADBEEF + 4)


def jhash_2words(first: int, second: int, seed: int) -> int:
    """Linux's hash of two 32-bit numbers."""
    return _lookup3((first, second), seed + 0xDEADBEEF + 8)


def client_of(address: Ip, seed: int) -> int:
    """An address as one 32-bit number: IPv4 as it is, of IPv6 a hash of its four words."""
    number = int(address)
    if address.version == 4:
        return number
    words = [number >> shift & WORD for shift in (96, 64, 32, 0)]
    return jhash_2words(jhash_2words(words[0], words[1], seed) ^ words[2], words[3], seed)


def bucket_of(address: Ip, seed: int, other: int | None = None) -> int:
    """The bucket, 0 to 65535, of a client's address, with its port or an IP identification where a rule says so."""
    client = client_of(address, seed)
    return (jhash_1word(client, seed) if other is None else jhash_2words(client, other, seed)) >> 16
