"""The suite vision8 as it is shipped: its base out of the package, its experts out of theirs, and experts that are better than the base."""

from suture.backbones import open_backbone, prototype_head
from suture.checkpoints import open_checkpoint
from suture.evaluation import accuracy
from suture.representation import encode
from suture.tasks import load_suite


def test_it_loads_and_an_expert_knows_its_task_better_than_the_base() -> None:
    suite = load_suite("vision8")
    assert [task.name for task in suite.tasks] == list(suite.experts)
    assert len(suite.tasks) == 8
    experts = {task: open_checkpoint(folder) for task, folder in suite.experts.items()}
    assert all(expert.specs == suite.base.specs for expert in experts.values())
    assert len({expert.digest for expert in experts.values()}) == 8
    task = next(task for task in suite.tasks if task.name == "digits")
    backbones = {
        "base": open_backbone(suite.base.folder, suite.base, network=suite.network),
        "expert": open_backbone(suite.base.folder, experts["digits"], network=suite.network),
    }
    support, test = task.split("support"), task.split("test").first(100)
    head = prototype_head(encode(backbones["base"], support.inputs), support.known_labels(), len(task.classes), suite.head_scale)
    found = {name: accuracy(head(encode(backbone, test.inputs)), test.known_labels()) for name, backbone in backbones.items()}
    assert found["expert"] > found["base"] + 0.2
