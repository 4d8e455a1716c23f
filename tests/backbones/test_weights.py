"""Where weights come from, and what is said when they come from nowhere."""

import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from freezeframe import files
from freezeframe.backbones import catalogue, weights, zoo
from freezeframe.errors import FreezeframeError, UserError


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FREEZEFRAME_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Serve a folder on loopback as the hub and the publishers do: address and folder."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(folder))  # type: ignore[arg-type]

        def end_headers(self) -> None:
            path = Path(self.translate_path(self.path))
            if path.is_file():
                self.send_header("ETag", f'"{files.sha256_file(path)}"')
                self.send_header("X-Repo-Commit", "0" * 40)
            super().end_headers()

        def log_message(self, *_arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", folder
    server.shutdown()
    server.server_close()


def use_hub(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.mark.parametrize(
    ("name", "size"), [("efficientnet-lite0", 224), ("efficientnet-lite1", 240), ("efficientnet-lite2", 260)]
)
def test_the_packaged_weights_give_the_logits_of_their_own_project(
    name: str, size: int, shared_data: Path
) -> None:
    from efficientnet_lite_pytorch import EfficientNet

    source = weights.locate(catalogue.describe(name))
    assert source is not None
    assert source.kind == "package"
    assert source.path is not None
    theirs = EfficientNet.from_pretrained(name, weights_path=str(source.path)).eval()
    network = zoo.build(name, 2)
    ours = network.module.eval()
    linear = torch.nn.Linear(1280, 1000)  # the published head, which a new network drops
    linear.load_state_dict({"weight": theirs._fc.weight.data, "bias": theirs._fc.bias.data})
    ours.set_submodule(network.head, linear)
    paths = sorted((shared_data / "beans" / "test").rglob("*.jpg"))[:3]
    pixels = np.stack([np.asarray(Image.open(path).convert("RGB").resize((size, size))) for path in paths])
    images = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
    with torch.no_grad():
        assert torch.equal(ours(images), theirs(images))
    assert network.weights_sha256 == files.sha256_file(source.path)


def test_a_file_of_this_network_is_used_without_its_head(tmp_path: Path) -> None:
    donor = zoo.build("mobilenet-v3", 7, "none", seed=3, announce=False).module.state_dict()
    save_file(donor, tmp_path / "donor.safetensors")
    network = zoo.build("mobilenet-v3", 2, tmp_path / "donor.safetensors")
    assert torch.equal(network.module.get_parameter("conv_stem.weight"), donor["conv_stem.weight"])
    assert network.module.get_parameter("classifier.linear.weight").shape == (2, 1280)
    assert network.weights_sha256 == files.sha256_file(tmp_path / "donor.safetensors")


def test_a_file_of_another_network_is_refused_by_the_names_in_it(tmp_path: Path) -> None:
    save_file(
        zoo.build("resnet18", 2, "none", announce=False).module.state_dict(), tmp_path / "other.safetensors"
    )
    with pytest.raises(
        UserError,
        match=r"another network than mobilenet-v3: .*missing \(conv_stem.weight.*unexpected \(layer1",
    ):
        zoo.build("mobilenet-v3", 2, tmp_path / "other.safetensors")


def test_a_pickled_checkpoint_is_refused(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "model.pth")
    with pytest.raises(UserError, match="pickled checkpoints"):
        zoo.build("resnet18", 2, tmp_path / "model.pth")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no weights file"):
        zoo.build("resnet18", 2, tmp_path / "nothing.safetensors")


def test_without_hub_and_file_the_message_says_what_to_fetch_and_where_to_put_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use_hub(monkeypatch, "http://127.0.0.1:9")
    start = time.monotonic()
    with pytest.raises(UserError) as caught:
        weights.fetch(catalogue.describe("resnet18"))
    assert time.monotonic() - start < 5
    assert "model.safetensors of the repository timm/resnet18.a1_in1k" in str(caught.value)
    assert str(tmp_path / "home" / "weights" / "resnet18.safetensors") in str(caught.value)


def test_offline_mode_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set"):
        weights.fetch(catalogue.describe("resnet18"))


def test_the_file_that_a_person_puts_into_the_folder_is_used(tmp_path: Path) -> None:
    import timm

    donor = timm.create_model("mobilenetv3_large_100")
    weights.weights_folder().mkdir(parents=True)
    save_file(donor.state_dict(), weights.weights_folder() / "mobilenetv3_large_100.safetensors")
    network = zoo.build("mobilenet-v3", 2)
    assert torch.equal(
        network.module.get_parameter("conv_stem.weight"), donor.state_dict()["conv_stem.weight"]
    )
    assert network.weights_source.startswith("file ")


def test_weights_come_from_the_hub_and_then_from_its_cache(
    monkeypatch: pytest.MonkeyPatch, served: tuple[str, Path]
) -> None:
    import timm

    address, folder = served
    use_hub(monkeypatch, address)
    target = folder / "timm" / "mobilenetv3_large_100.ra_in1k" / "resolve" / "main" / "model.safetensors"
    target.parent.mkdir(parents=True)
    donor = timm.create_model("mobilenetv3_large_100").state_dict()
    save_file(donor, target)
    network = zoo.build("mobilenet-v3", 2)
    assert torch.equal(network.module.get_parameter("conv_stem.weight"), donor["conv_stem.weight"])
    assert network.weights_source == "hub timm/mobilenetv3_large_100.ra_in1k"
    source = weights.locate(catalogue.describe("mobilenet-v3"))
    assert source is not None
    assert source.path is not None


def serve_alexnet(
    folder: Path, monkeypatch: pytest.MonkeyPatch, address: str, digits: str | None = None
) -> catalogue.Backbone:
    from dataclasses import replace

    state = {"features.0.weight": torch.arange(6.0)}
    torch.save(state, folder / "file.pth")
    digits = digits or files.sha256_file(folder / "file.pth")[:8]
    (folder / "file.pth").rename(folder / f"alexnet-{digits}.pth")
    monkeypatch.setenv("FREEZEFRAME_WEIGHTS_MIRROR", address)
    return replace(catalogue.describe("alexnet"), url=f"https://example.org/alexnet-{digits}.pth")


def test_a_published_file_is_fetched_checked_and_kept_as_safetensors(
    monkeypatch: pytest.MonkeyPatch, served: tuple[str, Path]
) -> None:
    backbone = serve_alexnet(served[1], monkeypatch, served[0])
    source = weights.fetch(backbone)
    assert source.path == weights.weights_folder() / "alexnet.safetensors"
    assert torch.equal(load_file(source.path)["features.0.weight"], torch.arange(6.0))
    assert [path.name for path in weights.weights_folder().iterdir()] == ["alexnet.safetensors"]


def test_a_file_with_another_hash_than_published_is_thrown_away(
    monkeypatch: pytest.MonkeyPatch, served: tuple[str, Path]
) -> None:
    backbone = serve_alexnet(served[1], monkeypatch, served[0], digits="00000000")
    with pytest.raises(FreezeframeError, match="not what it publishes"):
        weights.fetch(backbone)
    assert list(weights.weights_folder().iterdir()) == []


def test_a_publisher_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREEZEFRAME_WEIGHTS_MIRROR", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"alexnet-owt-7be5be79\.pth"):
        weights.fetch(catalogue.describe("alexnet"))
