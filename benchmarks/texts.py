"""Texts for compression."""

from __future__ import annotations

import json
import random


def texts(count: int, size: int) -> list[str]:
    """Texts of JSON, as a feed of a market has them, cut to a size."""
    rng = random.Random(1)
    found = []
    for number in range(count):
        quotes: list[dict[str, object]] = []
        while len(text := json.dumps({"channel": "book", "sequence": number, "quotes": quotes})) < size:
            side, price = rng.choice(["bid", "ask"]), round(rng.uniform(90, 110), 2)
            quotes.append({"side": side, "price": price, "size": rng.randrange(1, 500)})
        found.append(text[:size])
    return found
