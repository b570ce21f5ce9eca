"""What ``websock bench`` is made of.

``plan.py`` says what is to be done and when, ``messages.py`` makes and checks messages, ``histogram.py`` and
``tally.py`` count in bounded memory, ``report.py`` puts the counts into words: none of them waits or reads a clock.
``driving.py`` does it, in one event loop (``loop.py``); ``crowd.py`` and ``worker.py`` in several processes.
"""
