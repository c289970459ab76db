"""Plain modules as backbones: found by a function or by its name, filled by the names on disk, operated on block by block."""

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file, save_model
from torch import Tensor, nn
from typer.testing import CliRunner

import suture
from suture.backbones import NetworkBackbone, text_tower
from suture.backbones.efficientnet_lite import efficientnet_lite0
from suture.backbones.text_towers import logit_scale
from suture.cli.app import app
from suture.errors import CorruptCheckpoint, DataError, IncompatibleExperts, SutureWarning, UnsupportedFormat
from suture.representation import encode, encode_cached
from suture.surgery import ClosedForm, fit_deep_closed_form


class Tiny(nn.Module):
    """Two blocks over maps, a norm over batches, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 4, 4), nn.BatchNorm2d(8)
        self.blocks = nn.ModuleList([nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.Tanh()) for _ in range(2)])
        self.fc = nn.Linear(8, 5)

    def features(self, pixels: Tensor) -> Tensor:
        hidden = self.norm(self.stem(pixels))
        for block in self.blocks:
            hidden = block(hidden)
        return hidden.mean(dim=(2, 3))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.fc(self.features(pixels))


def pixels_of(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image.resize((16, 16)))).permute(2, 0, 1).float() / 255


def tiny() -> suture.Network:
    return suture.Network(Tiny(), pixels_of, Tiny.features, classifier="fc", classes=("a", "b", "c", "d", "e"))


def nothing() -> int:
    return 1


def saved(folder: Path, seed: int, prefix: str = "", classes: int = 5) -> Path:
    folder.mkdir(parents=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Tiny()
        model.fc = nn.Linear(8, classes)
        model(torch.randn(8, 3, 16, 16))
    save_file({f"{prefix}{name}": tensor for name, tensor in model.state_dict().items()}, folder / "model.safetensors")
    return folder


def images(count: int, seed: int = 0) -> Sequence[np.ndarray[Any, Any]]:
    draw = np.random.default_rng(seed)
    return [draw.integers(0, 256, (12, 10, 3), dtype=np.uint8) for _ in range(count)]


def opened(folder: Path) -> NetworkBackbone:
    backbone = suture.open_backbone(folder, suture.open_checkpoint(folder), network=tiny)
    assert isinstance(backbone, NetworkBackbone)
    return backbone


@pytest.mark.parametrize("prefix", ["", "model.", "module."])
def test_it_represents_as_the_module_does(prefix: str, tmp_path: Path) -> None:
    backbone, model = opened(saved(tmp_path / "e", 1, prefix)), Tiny().eval()
    model.load_state_dict({name.removeprefix(prefix): tensor for name, tensor in backbone.weights.items()})
    batch = torch.stack([pixels_of(Image.fromarray(image)) for image in images(3)])
    with torch.no_grad():
        torch.testing.assert_close(encode(backbone, images(3)), model.features(batch))
        torch.testing.assert_close(suture.saved_head(backbone)(encode(backbone, images(3))), model(batch))
    assert suture.saved_head(backbone).classes == ("a", "b", "c", "d", "e")
    assert backbone.names["norm.running_var"] == f"{prefix}norm.running_var"
    assert backbone.widths == [8, 8, 8]


def test_making_one_draws_nothing_from_the_global_generator(tmp_path: Path) -> None:
    folder, before = saved(tmp_path / "e", 1), torch.random.get_rng_state()
    encode(opened(folder), images(1))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_gradients_flow_to_weights_that_stand_in(tmp_path: Path) -> None:
    backbone = opened(saved(tmp_path / "e", 1))
    weight = (2 * backbone.weights["stem.weight"]).requires_grad_()
    z = backbone.represent(backbone.prepare(images(2)), {"stem.weight": weight})
    (gradient,) = torch.autograd.grad(z.sum(), weight)
    assert float(gradient.abs().max()) > 0
    assert not torch.allclose(z, encode(backbone, images(2)))


def test_deep_surgery_brings_it_to_the_expert(tmp_path: Path) -> None:
    merged, expert = opened(saved(tmp_path / "a", 1)), opened(saved(tmp_path / "b", 2))
    surgery = fit_deep_closed_form({"t": images(60)}, merged, lambda _: expert, ClosedForm(rank=8, shrinkages=(1e-4,)))
    operated = surgery("t", encode(merged, images(60), corrections=surgery.blocks_of("t")))
    goal = encode(expert, images(60))
    assert float((operated - goal).abs().mean()) < 0.5 * float((encode(merged, images(60)) - goal).abs().mean())


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    backbone = opened(saved(tmp_path / "e", 1))
    with pytest.raises(DataError, match=r"test_networks.*:tiny takes images, not str"):
        encode(backbone, ["a text"])
    with pytest.raises(DataError, match=r"backbone\.pooling is for networks of transformers"):
        suture.open_backbone(backbone.folder, backbone.weights, "mean", network=tiny)
    with pytest.raises(DataError, match=r"'no\.such:thing' cannot be imported .*; expected package\.module:function"):
        suture.open_backbone(backbone.folder, backbone.weights, network="no.such:thing")
    with pytest.raises(DataError, match=r"returned int, not a suture\.Network"):
        encode(suture.open_backbone(backbone.folder, backbone.weights, network=nothing), images(1))
    kept = {name: tensor.clone() for name, tensor in backbone.weights.items() if not name.startswith("blocks.1")}
    save_file(kept, tmp_path / "part.safetensors")
    with pytest.raises(
        IncompatibleExperts, match=r"part\.safetensors does not fill the model .*: blocks\.1\.0\.bias, blocks\.1\.0\.weight"
    ):
        encode(suture.open_backbone(tmp_path, suture.open_checkpoint(tmp_path / "part.safetensors"), network=tiny), images(1))
    wide = {name: torch.cat([tensor, tensor]) if name == "stem.weight" else tensor for name, tensor in backbone.weights.items()}
    save_file(wide, tmp_path / "wide.safetensors")
    with pytest.raises(IncompatibleExperts, match=r"wide\.safetensors does not fill .*stem\.weight"):
        encode(suture.open_backbone(tmp_path, suture.open_checkpoint(tmp_path / "wide.safetensors"), network=tiny), images(1))
    plain = suture.open_backbone(backbone.folder, backbone.weights, network=lambda: suture.Network(Tiny(), pixels_of, Tiny.features))
    with pytest.raises(DataError, match="names no linear layer"):
        suture.saved_head(plain)
    flat = suture.open_backbone(
        backbone.folder, backbone.weights, network=lambda: suture.Network(Tiny(), pixels_of, Tiny.features, blocks="none")
    )
    with pytest.raises(UnsupportedFormat, match="no list of blocks"):
        flat.blocks  # noqa: B018


def told() -> suture.Network:
    return suture.Network(Tiny(), pixels_of, Tiny.features, identity=("32 px",))


def test_settings_that_it_tells_tell_representations_apart(tmp_path: Path) -> None:
    backbone = opened(saved(tmp_path / "e", 1))
    digests = {NetworkBackbone(backbone.folder, backbone.weights, make, "name").digest for make in (tiny, told)}
    assert len(digests) == 2
    assert opened(backbone.folder).digest == backbone.digest


def test_changed_code_tells_representations_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path / "e", 1)
    monkeypatch.syspath_prepend(tmp_path)
    found = []
    for side in (16, 12):
        file = tmp_path / f"changing_{side}.py"
        file.write_text(Path(__file__).read_text(encoding="utf-8").replace("(16, 16)", f"({side}, {side})"), encoding="utf-8")
        file.rename(tmp_path / "changing.py")
        sys.modules.pop("changing", None)
        importlib.invalidate_caches()
        sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
        backbone = suture.open_backbone(tmp_path / "e", suture.open_checkpoint(tmp_path / "e"), network="changing:tiny")
        found.append((backbone.digest, encode_cached(backbone, images(2))))
        sys.dont_write_bytecode = before
    assert found[0][0] != found[1][0]
    assert not torch.allclose(found[0][1], found[1][1])


def test_functions_inside_functions_are_like_no_other(tmp_path: Path) -> None:
    weights = suture.open_checkpoint(saved(tmp_path / "e", 1))

    def with_side(side: int) -> NetworkBackbone:
        def transform(image: Image.Image) -> Tensor:
            return pixels_of(image) * side

        backbone = suture.open_backbone(tmp_path / "e", weights, network=lambda: suture.Network(Tiny(), transform, Tiny.features))
        assert isinstance(backbone, NetworkBackbone)
        return backbone

    first, second = (encode_cached(with_side(side), images(2)) for side in (1, 2))
    assert not torch.allclose(first, second)


ONE = Tiny()


def always_one() -> suture.Network:
    return suture.Network(ONE, pixels_of, Tiny.features)


def test_a_module_that_is_given_again_and_again_stays_as_it_is(tmp_path: Path) -> None:
    before = {name: tensor.clone() for name, tensor in ONE.state_dict().items()}
    backbones = [
        suture.open_backbone(folder, suture.open_checkpoint(folder), network=always_one)
        for folder in (saved(tmp_path / "a", 1), saved(tmp_path / "b", 2))
    ]
    own = [encode(backbone, images(2)) for backbone in backbones]
    assert all(backbone.names for backbone in backbones)
    assert torch.equal(encode(backbones[0], images(2)), own[0])
    assert not torch.allclose(*own)
    assert all(torch.equal(tensor, before[name]) for name, tensor in ONE.state_dict().items())


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = self.first

    def forward(self, pixels: Tensor) -> Tensor:
        return self.second(self.first(pixels.mean(dim=(2, 3))))


def shared() -> suture.Network:
    return suture.Network(Shared(), pixels_of)


def test_a_parameter_of_two_names_is_saved_by_one(tmp_path: Path) -> None:
    model = Shared()
    save_model(model, str(tmp_path / "model.safetensors"))
    backbone = suture.open_backbone(tmp_path, suture.open_checkpoint(tmp_path), network=shared)
    assert len(backbone.weights) == 2
    with torch.no_grad():
        torch.testing.assert_close(
            encode(backbone, images(2)), model(torch.stack([pixels_of(Image.fromarray(image)) for image in images(2)]))
        )


def as_they_are(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float()


def unlike() -> suture.Network:
    return suture.Network(Tiny(), as_they_are, Tiny.features)


def as_arrays() -> suture.Network:
    return suture.Network(Tiny(), np.asarray, Tiny.features)  # type: ignore[arg-type]


def maps() -> suture.Network:
    return suture.Network(Tiny(), pixels_of, lambda model, batch: model.stem(batch))


def demanding(size: int) -> suture.Network:
    return tiny()


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (unlike, r"unlike failed with RuntimeError: stack expects each tensor to be equal size"),
        (as_arrays, r"as_arrays failed with TypeError"),
        (maps, r"maps represents 2 inputs by \(2, 8, 4, 4\), not by a tensor of \(n, k\)"),
        (demanding, r"demanding failed with TypeError: .*missing 1 required positional argument"),
        ("math:pi", "'math:pi' is no function, but float"),
    ],
)
def test_whose_code_failed_is_told(network: Any, message: str, tmp_path: Path) -> None:
    folder = saved(tmp_path / "e", 1)
    pictures = [np.zeros((8, 8, 3), dtype=np.uint8), np.zeros((9, 9, 3), dtype=np.uint8)]
    with pytest.raises(DataError, match=f"backbone.network: .*{message}"):
        encode(suture.open_backbone(folder, suture.open_checkpoint(folder), network=network), pictures)


def test_classifiers_of_other_sizes_are_left_out_and_kept_as_heads(tmp_path: Path) -> None:
    base = suture.open_checkpoint(saved(tmp_path / "base", 0))
    with pytest.warns(SutureWarning, match=r"left out, as the base's backbone has no such tensor: fc\.bias, fc\.weight"):
        expert = suture.open_aligned(base, saved(tmp_path / "expert", 1, classes=3), network=tiny)
    assert torch.equal(expert["stem.weight"], suture.open_checkpoint(tmp_path / "expert")["stem.weight"])
    assert expert["fc.weight"].shape == (5, 8)
    assert len(suture.saved_head(opened(tmp_path / "expert")).weight) == 3


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two tasks of two classes, bright and dark, in folders of images, for a network that the recipe names."""
    (tmp_path / "my_networks.py").write_text(
        "import importlib.util\n"
        f"spec = importlib.util.spec_from_file_location('of_tests', {str(Path(__file__))!r})\n"
        "module = importlib.util.module_from_spec(spec)\nspec.loader.exec_module(module)\ntiny = module.tiny\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    saved(tmp_path / "base", 0)
    tasks = []
    for number, task in enumerate(("one", "two")):
        saved(tmp_path / task, number + 1)
        for split, count in (("support", 4), ("calibration", 12), ("test", 10)):
            for label, (low, high) in {"dark": (0, 100), "bright": (150, 256)}.items():
                (tmp_path / "data" / task / split / label).mkdir(parents=True)
                draw = np.random.default_rng(hash_of(task, split, label))
                for place in range(count):
                    picture = draw.integers(low, high, (9, 9, 3), dtype=np.uint8)
                    Image.fromarray(picture).save(tmp_path / "data" / task / split / label / f"{place}.png")
        places = {split: f"data/{task}/{split}" for split in ("calibration", "test")}
        tasks.append({"name": task, "expert": task, "head": {"support": f"data/{task}/support"}, **places})
    content = {
        "base": "base",
        "backbone": {"network": "my_networks:tiny"},
        "tasks": tasks,
        "merges": ["weight_averaging", {"method": "ada_merging", "steps": 2, "batch_size": 4}],
        "calibration": {"samples": 16},
        "surgery": [{"rank": 2, "iterations": 5}, {"procedure": "deep_closed_form", "rank": 2}],
        "seeds": [0],
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "recipe.yaml"


def hash_of(*parts: str) -> int:
    return sum(ord(letter) for part in parts for letter in part)


def test_a_recipe_names_a_network_of_ones_own(recipe: Path) -> None:
    found = CliRunner().invoke(app, ["run", str(recipe), "-o", str(recipe.parent / "out")])
    assert found.exit_code == 0, found.output
    assert (recipe.parent / "out" / "merged" / "ada_merging" / "model.safetensors").is_file()
    assert (
        suture.open_checkpoint(recipe.parent / "out" / "merged" / "weight_averaging").keys()
        == suture.open_checkpoint(recipe.parent / "base").keys()
    )


def refusing() -> suture.Network:
    raise DataError("not today")


def test_errors_of_ours_come_out_of_anybodys_code_as_they_are(tmp_path: Path) -> None:
    folder = saved(tmp_path / "e", 1)
    with pytest.raises(DataError, match=r"^not today$"):
        encode(suture.open_backbone(folder, suture.open_checkpoint(folder), network=refusing), images(1))


def test_libraries_that_are_not_installed_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = saved(tmp_path / "e", 1)
    for name in ("timm", "open_clip", "efficientnet_lite_pytorch"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UnsupportedFormat, match=r"pip install 'suture\[vision8\]'"):
        efficientnet_lite0()
    (folder / "config.json").write_text('{"architecture": "resnet18"}')
    with pytest.raises(UnsupportedFormat, match=r"e is a model of timm, which is not installed: pip install 'suture\[timm\]'"):
        encode(suture.open_backbone(folder, suture.open_checkpoint(folder)), images(1))
    (folder / "config.json").unlink()
    (folder / "open_clip_config.json").write_text('{"model_cfg": "tiny"}')
    backbone = suture.open_backbone(folder, suture.open_checkpoint(folder))
    for tower, name in ((backbone, "tiny"), (text_tower(backbone), "tiny, texts")):
        assert isinstance(tower, NetworkBackbone)
        assert tower.name == f"open_clip: {name}"
        with pytest.raises(UnsupportedFormat, match=r"is a model of open_clip, which is not installed: pip install 'suture\[open-clip\]'"):
            tower.network  # noqa: B018
    assert logit_scale(backbone) == 100.0
    (folder / "open_clip_config.json").write_text("[]")
    with pytest.raises(CorruptCheckpoint, match=r"open_clip_config\.json: expected a mapping, found list"):
        suture.open_backbone(folder, suture.open_checkpoint(folder))
