"""How often a caller may call; the clock is the test's."""

from __future__ import annotations

from serve_app.middleware.auth import MAX_CALLERS, RateLimit


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_a_burst_passes_and_then_one_for_each_interval() -> None:
    clock = Clock()
    limit = RateLimit(per_minute=60, burst=3, clock=clock)
    assert [limit.wait_s("a") for _ in range(4)] == [0, 0, 0, 1]
    clock.now_s += 0.75
    assert limit.wait_s("a") == 0.25
    clock.now_s += 0.25
    assert [limit.wait_s("a") for _ in range(2)] == [0, 1]


def test_who_waits_as_told_is_let_in_and_who_does_not_is_not_punished() -> None:
    clock = Clock()
    limit = RateLimit(per_minute=6, burst=1, clock=clock)
    assert limit.wait_s("a") == 0
    for _ in range(100):
        wait_s = limit.wait_s("a")
    clock.now_s += wait_s
    assert limit.wait_s("a") == 0


def test_over_time_no_more_than_the_rate_comes_through() -> None:
    clock = Clock()
    limit = RateLimit(per_minute=30, burst=5, clock=clock)
    passed = 0
    for _ in range(10 * 60 * 4):
        passed += limit.wait_s("a") == 0
        clock.now_s += 0.25
    assert passed == 10 * 30 + 5 - 1


def test_callers_do_not_wait_for_one_another() -> None:
    limit = RateLimit(per_minute=1, burst=1, clock=Clock())
    assert [limit.wait_s("a"), limit.wait_s("b")] == [0, 0]
    assert limit.wait_s("a") > 0


def test_of_endlessly_many_invented_callers_the_first_are_forgotten() -> None:
    limit = RateLimit(per_minute=1, burst=1, clock=Clock())
    for number in range(3 * MAX_CALLERS):
        limit.wait_s(str(number))
    assert limit.wait_s(str(3 * MAX_CALLERS - 1)) > 0
    assert limit.wait_s("0") == 0
