"""Tuning: an asynchronous driver that submits trainings as jobs and chooses their settings.

    space ─▶ propose ─▶ driver ─▶ dispatch ─▶ trainings ─▶ result.json ─▶ journal ─▶ study

Importing this package loads nothing else.  Useful from other programs:

- ``space.parsing.read_space``, ``space.space.Space``: the tuned parameters
- ``strategy.strategy.propose``: the next point, a function of the list of trials
- ``study.study.read_study``: all trials of a study, at any time
- ``driver.driver.Driver`` with ``simulate.dispatcher.FakeDispatcher`` and
  ``driver.clock.VirtualClock``: a whole study in a second
"""
