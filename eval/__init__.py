"""Is it any good, and what did it cost."""
