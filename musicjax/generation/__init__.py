"""A work dir and primes -> pieces of music."""
