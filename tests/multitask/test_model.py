"""The model: what it answers, and with how many passes."""

from collections.abc import Callable
from unittest.mock import patch

import pytest
import torch

from multitask.conftest import KINDS, TASKS, TEXTS
from suture.backbones import TextBackbone
from suture.errors import DataError, IncompatibleExperts, UnknownName
from suture.multitask import MultiTaskModel
from suture.surgery import Origin, represent


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_operation_and_head(make_model: Callable[..., MultiTaskModel], kind: str) -> None:
    model = make_model(kind)
    for task in TASKS:
        z = model.represent(TEXTS, task)
        if model.operation is not None:
            torch.testing.assert_close(z, represent(model.operation, model.backbone, task, TEXTS))
        torch.testing.assert_close(model.logits(TEXTS, task), model.heads[task](z))
        shares = model.heads[task](z).double().softmax(dim=1)
        for row, found in zip(shares, model.predict(TEXTS, task), strict=True):
            assert found.label == TASKS[task][int(row.argmax())]
            assert list(found.probabilities) == list(TASKS[task])
            assert found.probability == pytest.approx(float(row.max()))
            assert (found.task, found.confidence, found.strange) == (task, 1.0, False)


@pytest.mark.parametrize(("kind", "passes"), [("none", 1), ("relu", 1), ("closed_form", 1), ("residuals", 3)])
def test_one_pass_answers_all_tasks(make_model: Callable[..., MultiTaskModel], kind: str, passes: int) -> None:
    model = make_model(kind)
    with patch.object(TextBackbone, "pooled", autospec=True, side_effect=TextBackbone.pooled) as pooled:
        answers = model.predict_all(TEXTS)
    rows = sum(len(call.args[1]["input_ids"]) for call in pooled.call_args_list)
    assert rows == passes * len(TEXTS)
    for task, own in answers.items():
        told = model.predict(TEXTS, task)
        assert [each.label for each in own] == [each.label for each in told]
        assert [each.probability for each in own] == pytest.approx([each.probability for each in told])


@pytest.mark.parametrize("kind", ["closed_form", "deep_closed_form", "residuals"])
def test_the_router_names_the_task(make_model: Callable[..., MultiTaskModel], kind: str) -> None:
    model = make_model(kind)
    assert model.router is not None
    found = model.predict(TEXTS)
    again = model.predict(TEXTS, [each.task for each in found])
    assert [each.label for each in found] == [each.label for each in again]
    assert all(1 / 3 <= each.confidence <= 1 for each in found)
    mixed = model.predict(TEXTS[:4], ["pets", "auto", "colours", "auto"])
    assert [mixed[0].task, mixed[2].task] == ["pets", "colours"]
    assert mixed[1].task == found[1].task


def test_folded_answers_are_the_same(make_model: Callable[..., MultiTaskModel]) -> None:
    model = make_model("closed_form", linear=True)
    folded = model.folded()
    assert folded.operation is None
    for task in TASKS:
        torch.testing.assert_close(folded.logits(TEXTS, task), model.logits(TEXTS, task), rtol=1e-5, atol=1e-5)
    with pytest.raises(DataError, match="only surgery of the final"):
        make_model("deep_closed_form", linear=True).folded()
    with pytest.raises(DataError, match="cosine"):
        make_model("closed_form").folded()


def test_what_does_not_fit_together_is_refused(make_model: Callable[..., MultiTaskModel]) -> None:
    model = make_model()
    with pytest.raises(UnknownName, match="did you mean 'pets'"):
        model.predict(TEXTS, "pet")
    with pytest.raises(DataError, match="8 inputs, but 2 tasks"):
        model.predict(TEXTS, ["pets", "pets"])
    with pytest.raises(DataError, match="no router: name the task"):
        make_model(routed=False).predict(TEXTS)
    with pytest.raises(DataError, match="at least one task"):
        MultiTaskModel(model.backbone, {})
    with pytest.raises(DataError, match="but the surgery is of"):
        MultiTaskModel(model.backbone, {"pets": model.heads["pets"]}, model.operation)
    with pytest.raises(DataError, match="cannot be called 'auto'"):
        MultiTaskModel(model.backbone, {"auto": model.heads["pets"]})
    with pytest.raises(IncompatibleExperts, match="fitted on other weights"):
        MultiTaskModel(model.backbone, model.heads, model.operation, Origin("held-out", 1, 0, "0" * 64))
    with pytest.raises(DataError, match="no inputs"):
        model.predict([], "pets")
    with pytest.raises(DataError, match="no inputs"):
        model.predict_all([])


def test_parameters_are_counted(make_model: Callable[..., MultiTaskModel]) -> None:
    model = make_model("closed_form", routed=False)
    backbone, own = model.parameters
    assert backbone == sum(tensor.numel() for tensor in model.backbone.weights.values())
    assert own == 7 * 16 + sum(model.operation.parameters(task) for task in TASKS)
