"""What all tests share."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real images, beside the checkout."""
    folder = REPOSITORY.parent / "shared" / "data"
    assert folder.is_dir(), f"{folder} is missing: the tests run on real images."
    return folder


@pytest.fixture(scope="session")
def radiographs(shared_data, tmp_path_factory) -> Path:
    """Class folders with 40 patients each, from the real images."""
    root = tmp_path_factory.mktemp("radiographs")
    for label in ("NORMAL", "PNEUMONIA"):
        (root / label).mkdir()
        files = sorted((shared_data / "kermany/compact_224/train" / label).iterdir())
        for path in files[:: len(files) // 40][:40]:
            shutil.copy(path, root / label)
    return root


@pytest.fixture(scope="session")
def trained_ensemble(tmp_path_factory) -> Path:
    """Folder of an ensemble of two tiny networks that were really trained; not to be changed."""
    # Imported here, since few tests need what training needs.
    from trainings import train_ensemble

    return train_ensemble(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="session")
def node(tmp_path_factory) -> Path:
    """Folder of the commands of an environment that has only what a node needs: no torch."""
    folder = tmp_path_factory.mktemp("node")
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    install = [folder / "env/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*install, "-c", REPOSITORY / "constraints.txt", f"{REPOSITORY}[node]"],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return folder / "env/bin"
