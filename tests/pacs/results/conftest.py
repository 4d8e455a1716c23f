import pytest
import readings


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def radiographs(folder):
    return {kind: readings.phantom(kind, folder / f"{kind}.dcm") for kind in ("DX", "CR")}


@pytest.fixture(scope="module")
def heat_maps(folder, radiographs):
    (folder / "results").mkdir()
    path = readings.heat_map(folder / "results" / "heat.png")
    return {uid: path for radiograph in radiographs.values() for uid in readings.sources([radiograph])}
