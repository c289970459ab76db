"""Schedules: what they come to, and what is refused."""

from typing import Any

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
