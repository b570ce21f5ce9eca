"""What all tests share.

Property tests run with the profile ``normal``; ``WEBSOCK_HYPOTHESIS=heavy`` tries many times as many examples.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# A shared machine makes deadlines lie; what must be fast has a test of its own that says so.
settings.register_profile(
    "normal", max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.register_profile(
    "heavy",
    settings.get_profile("normal"),
    max_examples=5000,
    stateful_step_count=150,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile(os.environ.get("WEBSOCK_HYPOTHESIS", "normal"))
