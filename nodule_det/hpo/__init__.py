"""Tuning: an asynchronous driver that submits trainings as jobs, and chooses their settings.

    space ─▶ propose ─▶ driver ─▶ dispatch ─▶ trainings ─▶ result.json ─▶ journal ─▶ study

Importing this package costs nothing.  The parts that other programs use:

- ``space_file.read_space``, ``space.Space``: what is tuned
- ``propose.propose``, ``baselines``: the next point, a function of the list of trials
- ``study.read_study``: all trials of a study, at any time
- ``driver.Driver`` with ``dispatch.fake`` and ``clock.VirtualClock``: a whole study in a second
"""
