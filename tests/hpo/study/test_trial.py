from nodule_det.hpo.study.trial import Attempt, Trial


def attempt(number, started_s=None, ended_s=None):
    return Attempt(
        number=number, name=f"nd-cafe-1-{number}", intent_s=0, started_s=started_s, ended_s=ended_s
    )


def test_the_open_attempt_is_the_last_one_until_it_ends():
    trial = Trial(number=1, params={}, attempts=(attempt(1, 10, 20), attempt(2, 30)))
    assert trial.attempt is trial.attempts[1]
    assert trial.next_attempt == 3
    assert Trial(number=1, params={}, attempts=(attempt(1, 10, 20),)).attempt is None


def test_the_run_time_is_that_of_the_ended_attempts():
    assert Trial(number=1, params={}, attempts=(attempt(1, 10, 25), attempt(2, 30))).seconds == 15
    assert attempt(1, started_s=30, ended_s=20).seconds == 0  # clocks of two machines


def test_an_imported_trial_has_the_time_of_its_own_study():
    assert Trial(number=1, params={}, imported_seconds=60.0).seconds == 60
