"""Small bundles for tests of reading."""

from pathlib import Path

import pytest
from safetensors.numpy import save

from bundle.making import head_weights, make_bundle, make_graph
from freezeframe.bundle.runtime.contents import HEAT
from freezeframe.imaging.preprocess import Preprocessing
from freezeframe.pacs.configuration import NodeConfiguration


@pytest.fixture(scope="session")
def small_bundle(tmp_path_factory) -> Path:
    """Two members that tell the films apart, with heat maps and an operating point."""
    more = {}
    for place, seed in enumerate((21, 36)):
        more[f"members/member{place}.onnx"] = make_graph(seed=seed)
        more[f"members/member{place}.heat.safetensors"] = save({HEAT: head_weights(2, seed)})
    return make_bundle(tmp_path_factory.mktemp("bundle") / "small", more=more)


@pytest.fixture(scope="session")
def dark_is_nothing(tmp_path_factory) -> Path:
    """A bundle of one member to which black is 0, so that only what is bright can be seen in its heat map."""
    preprocessing = Preprocessing.from_steps([{"resize": {"size": 64}}], (64, 64), (0.0,) * 3, (1.0,) * 3)
    member = {
        "name": "member0",
        "backbone": "small",
        "weight": 1.0,
        "graph": "members/member0.onnx",
        "preprocessing": preprocessing.to_dict(),
        "heat": "members/member0.heat.safetensors",
    }
    return make_bundle(
        tmp_path_factory.mktemp("bundle") / "dark",
        members=1,
        size=64,
        changes={"members": [member], "operating_points": []},
    )


def configured(folder: Path, bundle: Path, **more: object) -> NodeConfiguration:
    content = {"folder": str(folder), "bundles": [{"path": str(bundle)}], "rules": [{"name": "all"}]}
    return NodeConfiguration.parse(content | more, "node.yaml")


@pytest.fixture(scope="session")
def configure():
    """Make the configuration of a node with one bundle: ``configure(folder, bundle, **fields)``."""
    return configured
