"""Texts, heads and a network for methods that learn: against the encoder, and against plain autograd."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from suture.backbones import Head, TaskCalibration, TextBackbone
from suture.backbones import calibration as module
from suture.backbones.families import block_names
from suture.checkpoints import open_checkpoint
from suture.errors import DataError
from suture.merging import Calibration, Walk
from suture.merging.calibration import entropy_backward
from suture.representation import encode

TEXTS = {
    "colours": ["red", "the cat is very blue and it is not red", "blue it is", "a a a red", "so"],
    "numbers": ["one two three", "two", "the very one is not so three one one"],
    "pets": ["cat", "dog dog dog dog", "it is a cat", "not a dog"],
}
HEADS = {task: Head(torch.randn(2 + place, 16, generator=torch.Generator().manual_seed(place))) for place, task in enumerate(TEXTS)}
ALL = [list(range(len(texts))) for texts in TEXTS.values()]
Renamed = Callable[[str], str]


def calibration(bert: Path, weights: Path | None = None, **settings: torch.dtype) -> TaskCalibration:
    backbone = TextBackbone(bert, open_checkpoint(weights)) if weights else TextBackbone.open(bert)
    return TaskCalibration(backbone, TEXTS, HEADS, **settings)


def all_logits(own: TaskCalibration, weights: Mapping[str, Tensor]) -> list[Tensor]:
    """Each task's logits, text after text, whatever batches they came in."""
    rows: list[list[Tensor]] = [[] for _ in TEXTS]
    for task, chosen in enumerate(ALL):
        for row in chosen:
            (batch,) = own.batches([[row] if place == task else [] for place in range(len(TEXTS))])
            ((found, logits),) = batch.logits(weights)
            assert found == task
            rows[task].append(logits)
    return [torch.cat(own) for own in rows]


def test_it_is_what_merging_asks_for(bert: Path) -> None:
    own = calibration(bert)
    assert isinstance(own, Calibration)
    assert list(own.tasks) == list(TEXTS)
    assert own.sizes == [5, 3, 4]


def test_batches_hold_every_text_once(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOKENS_PER_BATCH", 16)
    own = calibration(bert)
    batches = list(own.batches([[4, 0, 2], [], [1, 3]]))
    assert len(batches) > 1
    assert sorted(pair for batch in batches for pair in batch.chosen) == [(0, 0), (0, 2), (0, 4), (2, 1), (2, 3)]
    assert all(batch.real.numel() <= 16 or len(batch.chosen) == 1 for batch in batches)
    assert list(own.batches([[], [], []])) == []


@pytest.mark.parametrize("tokens", [12, 1024])
def test_logits_are_the_heads_of_the_representations(
    bert: Path, make_expert: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tokens: int
) -> None:
    monkeypatch.setattr(module, "TOKENS_PER_BATCH", tokens)
    own, expert = calibration(bert), TextBackbone.open(make_expert("e", 5))
    for backbone, weights in ((own.backbone, {}), (expert, dict(expert.weights))):
        found: dict[int, int] = {}
        for batch in own.batches(ALL):
            for task, logits in batch.logits(weights):
                texts = [list(TEXTS.values())[task][row] for other, row in batch.chosen if other == task]
                expected = list(HEADS.values())[task](encode(backbone, texts))
                torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
                found[task] = found.get(task, 0) + len(logits)
        assert found == {0: 5, 1: 3, 2: 4}


def test_weights_of_other_precisions_stand_in_as_well(bert: Path) -> None:
    own = calibration(bert)
    doubled = {name: tensor.double() for name, tensor in own.backbone.weights.items()}
    for found, expected in zip(all_logits(own, doubled), all_logits(own, {}), strict=True):
        torch.testing.assert_close(found, expected)


def legacy(name: str) -> str:
    """The names of old files: LayerNorm's weight and bias are gamma and beta."""
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")


@pytest.mark.parametrize("rename", [lambda name: name, lambda name: f"bert.{name}", legacy], ids=["plain", "prefixed", "legacy"])
def test_gradients_reach_the_weights_by_their_names_on_disk(bert: Path, tmp_path: Path, rename: Renamed) -> None:
    from transformers import AutoModel

    tensors = load_file(bert / "model.safetensors")
    save_file({rename(name): tensor for name, tensor in tensors.items()}, tmp_path / "renamed.safetensors", metadata={"format": "pt"})
    own = calibration(bert, tmp_path / "renamed.safetensors")
    assert own.parameters == {rename(name) for name in tensors}
    leaves = {rename(name): tensor.clone().requires_grad_() for name, tensor in tensors.items()}
    loss = entropy_backward(own, leaves, ALL)

    model = AutoModel.from_pretrained(bert).eval()
    losses = []
    for task, texts in TEXTS.items():
        for text in texts:
            hidden = model(**own.backbone.tokenizer(text, return_tensors="pt")).last_hidden_state
            p = HEADS[task](hidden.mean(dim=1)).softmax(dim=1)
            losses.append(-(p * p.log()).sum() / len(texts))
    torch.stack(losses).sum().backward()
    assert loss == pytest.approx(torch.stack(losses).sum().item(), rel=1e-4)
    for name, parameter in model.named_parameters():
        if parameter.grad is None:
            assert "pooler" in name
            continue
        found = leaves[rename(name)].grad
        assert found is not None, name
        torch.testing.assert_close(found, parameter.grad, rtol=1e-3, atol=1e-4 * float(parameter.grad.abs().max()) + 1e-6)


def test_watch_shows_real_tokens_and_leaves_no_hook(bert: Path, make_expert: Callable[..., Path]) -> None:
    own, expert = calibration(bert), open_checkpoint(make_expert("e", 2))
    seen: dict[str, list[Tensor]] = {}
    own.watch(dict(expert), [[0, 1], [2], []], lambda name, inputs: seen.setdefault(name, []).append(inputs))
    assert set(seen) == {name for names in own.layers for name in names}
    chosen = [*TEXTS["colours"][:2], TEXTS["numbers"][2]]
    lengths = [len(tokens) for tokens in own.backbone.prepare(chosen)]
    shared = "encoder.layer.1.attention.self."
    for name, parts in seen.items():
        # The pooler sees the first token, as part of the whole, or alone.
        assert sum(map(len, parts)) == (len(chosen) if "pooler" in name else sum(lengths)), name
    for query, key in zip(seen[f"{shared}query.weight"], seen[f"{shared}key.weight"], strict=True):
        assert query is key
    alone = TextBackbone.open(expert.path)
    entered = []
    for tokens in alone.prepare(chosen):
        hook = dict(alone.model.named_modules())["encoder.layer.1.output.dense"].register_forward_pre_hook(
            lambda _, inputs: entered.append(inputs[0][0])
        )
        alone.represent([tokens])
        hook.remove()
    found, expected = torch.cat(seen["encoder.layer.1.output.dense.weight"]), torch.cat(entered)
    # Batches are in order of length; second moments do not care.
    torch.testing.assert_close(found.T @ found, expected.T @ expected, rtol=1e-4, atol=1e-4)
    assert not any(layer._forward_pre_hooks for layer in own.backbone.model.modules())


def test_no_hook_survives_an_error(bert: Path) -> None:
    own = calibration(bert)

    def refuse(name: str, inputs: Tensor) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        own.watch({}, ALL, refuse)
    assert not any(layer._forward_pre_hooks for layer in own.backbone.model.modules())


def test_a_walk_shows_what_whole_passes_show(bert: Path, make_expert: Callable[..., Path], tmp_path: Path) -> None:
    own, expert = calibration(bert), open_checkpoint(make_expert("e", 2))
    rows, moments = [[0, 1], [2], []], {}

    def add(name: str, inputs: Tensor) -> None:
        moments[name] = moments.get(name, 0) + inputs.T @ inputs

    own.watch(dict(expert), rows, add)
    walk = own.walk(dict(expert), rows, tmp_path / "walk")
    assert isinstance(walk, Walk)
    for block, stages in enumerate(own.stages):
        assert list(walk.names) == own.blocks[block]
        for name in (weight for layers in stages for weight, _ in layers if "LayerNorm" not in weight):
            for _ in range(2):  # looking does not move it
                found = sum(inputs.T @ inputs for inputs in walk.inputs(dict(expert), name))
                torch.testing.assert_close(found, moments[name], rtol=1e-4, atol=1e-4)
        walk.step({name: expert[name] for name in walk.names})
    for name, parameter in own.backbone.model.named_parameters():
        assert torch.equal(parameter, own.backbone.weights[name]), name
    assert not any(layer._forward_pre_hooks for layer in own.backbone.model.modules())


def test_a_norm_is_shown_its_input_normalised(bert: Path, tmp_path: Path) -> None:
    own = calibration(bert, precision=torch.bfloat16)
    for inputs in own.walk({}, ALL, tmp_path / "walk").inputs({}, "encoder.layer.0.output.LayerNorm.weight"):
        torch.testing.assert_close(inputs.mean(dim=1), torch.zeros(len(inputs)), rtol=0, atol=1e-5)
        torch.testing.assert_close(inputs.var(dim=1, unbiased=False), torch.ones(len(inputs)), rtol=1e-3, atol=1e-3)


def test_stages_are_layers_by_their_inputs_in_forward_order(bert: Path) -> None:
    inner = (["attention.self.query", "attention.self.key", "attention.self.value"], ["attention.output.dense"])
    inner = (*inner, ["attention.output.LayerNorm"], ["intermediate.dense"], ["output.dense"], ["output.LayerNorm"])
    names = [[[f"encoder.layer.{block}.{name}" for name in names] for names in inner] for block in (0, 1)]
    expected = [[[(f"{name}.weight", f"{name}.bias") for name in layers] for layers in stages] for stages in names]
    assert calibration(bert).stages == expected


def test_layers_and_blocks_are_in_forward_order(bert: Path) -> None:
    own = calibration(bert)
    inner = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense", "intermediate.dense")
    expected = [[f"encoder.layer.{block}.{name}.weight" for name in (*inner, "output.dense")] for block in (0, 1)]
    assert own.layers == [*expected, ["pooler.dense.weight"]]
    for block, names in enumerate(own.blocks[:2]):
        assert set(names) == {name for name in own.parameters if name.startswith(f"encoder.layer.{block}.")}
    assert own.blocks[2] == ["pooler.dense.weight", "pooler.dense.bias"]
    outside = own.parameters - {name for names in own.blocks for name in names}
    assert outside == {name for name in own.parameters if name.startswith("embeddings.")}


def test_blocks_are_the_longest_list_of_modules() -> None:
    layers = partial(nn.ModuleList, [nn.Linear(1, 1), nn.Linear(1, 1)])
    model = nn.ModuleDict({"some": nn.ModuleList([nn.Linear(1, 1)]), "blocks": layers()})
    assert block_names(model) == [["blocks.0"], ["blocks.1"]]
    assert block_names(nn.Linear(1, 1)) == []


def test_half_precision_stays_close_and_gradients_stay_float32(bert: Path) -> None:
    exact, half = calibration(bert), calibration(bert, precision=torch.bfloat16)
    for found, expected in zip(all_logits(half, {}), all_logits(exact, {}), strict=True):
        assert found.dtype == torch.float32
        assert float((found - expected).norm() / expected.norm()) < 0.03
    gradients = []
    for own in (exact, half):
        leaves = {name: tensor.clone().requires_grad_() for name, tensor in own.backbone.weights.items()}
        entropy_backward(own, leaves, ALL)
        parts = [leaf.grad for leaf in leaves.values() if leaf.grad is not None]
        assert all(part.dtype == torch.float32 for part in parts)
        gradients.append(torch.cat([part.reshape(-1) for part in parts]))
    assert float(nn.functional.cosine_similarity(*gradients, dim=0)) > 0.98


def test_a_task_needs_texts_and_a_head(bert: Path) -> None:
    backbone = TextBackbone.open(bert)
    with pytest.raises(DataError, match="no inputs"):
        TaskCalibration(backbone, {"colours": []}, HEADS)
    with pytest.raises(DataError, match="no head"):
        TaskCalibration(backbone, {"other": ["red"]}, HEADS)


def test_a_pooler_is_not_taken_for_tokens(bert: Path) -> None:
    # As many tokens as the model is wide: the pooler's input has the shape of the mask.
    calibration = TaskCalibration(TextBackbone.open(bert, max_length=16), {"a": [" ".join(["red"] * 20)]}, {"a": Head(torch.ones(2, 16))})
    assert len(calibration.prepared[0][0]) == calibration.backbone.model.config.hidden_size == 16
    seen: dict[str, tuple[int, ...]] = {}
    calibration.watch({}, [[0]], lambda name, inputs: seen.setdefault(name, tuple(inputs.shape)))
    assert seen["pooler.dense.weight"] == (1, 16)
    assert seen["encoder.layer.0.attention.self.query.weight"] == (16, 16)
