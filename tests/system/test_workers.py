import os
import time

import pytest

from musicjax.system import workers
from musicjax.system.workers import Failure


def work(number):
    if number == 2:
        time.sleep(60)
    if number == 5:
        os._exit(3)
    return number * number


def fails():
    raise ValueError("as in one process")


@pytest.mark.parametrize("number_of_workers", [1, 3])
def test_what_hangs_or_crashes_is_given_up_alone(number_of_workers):
    tasks = [(i,) for i in range(9)]
    results = dict(workers.run(work, tasks, workers=number_of_workers, seconds=1.5))
    assert results.pop(2) == Failure("too_slow", "took more than 1.5 seconds")
    assert results.pop(5) == Failure("crashed", "its process ended with status 3")
    assert results == {i: i * i for i in range(9) if i not in (2, 5)}


def test_nothing_to_do():
    assert list(workers.run(work, [], workers=2)) == []


@pytest.mark.parametrize("number_of_workers", [0, 1])
def test_an_error_comes_through(number_of_workers):
    with pytest.raises(ValueError, match="as in one process"):
        list(workers.run(fails, [()], workers=number_of_workers))
