"""Schedules: what they come to, and what is refused."""

from typing import Any

import numpy as np
import pytest

from suture.errors import InvalidHyperparameter
from suture.surgery import Schedule


def test_the_reference_is_a_thousand_plain_steps() -> None:
    reference = Schedule.reference()
    assert reference == Schedule()
    assert (reference.steps, reference.batch_size, reference.learning_rate, reference.held_out) == (1000, 16, 1e-3, 0)
    assert Schedule.reference(4, stale_momentum=True) == Schedule(rank=4, stale_momentum=True)


def test_iterations_of_a_stream_follow_its_length() -> None:
    assert [Schedule.online(batch_size=16).iterations_for(samples) for samples in (1, 16, 17)] == [1, 1, 2]
    assert Schedule.default().iterations_for(3) == 1000


@pytest.mark.parametrize(("name", "told"), [("activation", "relu or none"), ("loss", "l1 or l2"), ("start", "zero or closed_form")])
def test_names_that_are_none(name: str, told: str) -> None:
    schedule = Schedule()
    object.__setattr__(schedule, name, "x")  # the shape checks of these tests would be the first to refuse it
    with pytest.raises(InvalidHyperparameter, match=f"{name} must be {told}, not 'x'"):
        schedule.__post_init__()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, "rank"),
        ({"iterations": 0}, "iterations"),
        ({"batch_size": 0}, "batch_size"),
        ({"look_every": 0}, "look_every"),
        ({"patience": 0}, "patience"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": float("inf")}, "learning_rate"),
        ({"betas": (0.9, 1.0)}, "betas"),
        ({"held_out": 1}, "held_out"),
        ({"held_out": -0.1}, "held_out"),
        ({"held_out": float("nan")}, "held_out"),
        ({"decay": True, "steps_per_iteration": 1, "one_pass": True}, "decay"),
        ({"decay": True, "stale_momentum": True}, "decay"),
        ({"one_pass": True}, "one step per iteration"),
        ({"one_pass": True, "steps_per_iteration": 1, "held_out": 0.2}, "nothing held_out"),
        ({"stale_momentum": True, "held_out": 0.2}, "stale_momentum"),
        ({"stale_momentum": True, "steps_per_iteration": 1, "one_pass": True}, "stale_momentum"),
        ({"start": "closed_form"}, "activation='none' and shift=True"),
        ({"start": "closed_form", "activation": "none"}, "activation='none' and shift=True"),
        ({"start": "closed_form", "shift": True}, "activation='none' and shift=True"),
        (
            {"start": "closed_form", "activation": "none", "shift": True, "one_pass": True, "steps_per_iteration": 1},
            "samples that are still to come",
        ),
    ],
)
def test_schedules_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidHyperparameter, match=message):
        Schedule(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, "rank must be at least 1, not 0"),
        ({"steps_per_iteration": 0}, "steps_per_iteration must be at least 1, not 0"),
        ({"learning_rate": -1.0}, "learning_rate must be a positive number, not -1.0"),
        ({"betas": (-0.1, 0.5)}, "betas must be at least 0 and less than 1, not (-0.1, 0.5)"),
        ({"one_pass": True}, "one_pass takes every sample once: it goes with one step per iteration and nothing held_out"),
        ({"decay": True, "stale_momentum": True}, "decay needs the number of a task's own steps: no one_pass, no stale_momentum"),
        (
            {"stale_momentum": True, "held_out": 0.2},
            "stale_momentum ties the tasks together, so none can end by itself: no one_pass, nothing held_out",
        ),
        ({"start": "closed_form"}, "a closed form to start from has no ReLU but a shift: it goes with activation='none' and shift=True"),
        (
            {"start": "closed_form", "activation": "none", "shift": True, "one_pass": True, "steps_per_iteration": 1},
            "a stream cannot start from the closed form of samples that are still to come: no one_pass",
        ),
    ],
)
def test_what_is_said_of_them(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidHyperparameter) as caught:
        Schedule(**settings)
    assert str(caught.value) == message


def test_the_least_that_makes_sense() -> None:
    Schedule(1, 1, steps_per_iteration=1, batch_size=1, look_every=1, patience=1, betas=(0.0, 0.0), learning_rate=1e-30)


def test_the_rate_falls_along_half_a_cosine() -> None:
    schedule = Schedule(iterations=3, steps_per_iteration=2, decay=True)
    rates = [schedule.rate_at(step) for step in range(9)]
    np.testing.assert_allclose(rates, (1 + np.cos(np.pi * np.minimum(np.arange(9) / 6, 1))) / 2, atol=1e-15)
    assert [Schedule(iterations=3).rate_at(step) for step in range(9)] == [1.0] * 9
