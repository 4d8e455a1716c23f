import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundle.making import CHANNELS, make_graph
from freezeframe.bundle.runtime.sessions import BATCH, open_session
from freezeframe.errors import FreezeframeError, UserError

ALL = ("logits", "features", "map")
IMAGES = np.random.default_rng(0).normal(size=(40, 3, 32, 32)).astype(np.float32)


@pytest.fixture(scope="module")
def session():
    return open_session(make_graph(classes=3))


@pytest.fixture(scope="module")
def whole(session):
    return session.run(IMAGES, ALL)


@settings(deadline=None, max_examples=30)
@given(chosen=st.lists(st.integers(0, len(IMAGES) - 1), min_size=2, max_size=2 * BATCH + 3))
def test_an_answer_is_the_same_to_the_bit_whatever_images_are_beside_it(session, whole, chosen):
    answers = session.run(IMAGES[chosen], ALL)
    for name in ALL:
        assert np.array_equal(answers[name], whole[name][chosen])


def test_one_image_alone_is_answered_as_in_a_batch_but_for_rounding(session, whole):
    for name, answer in session.run(IMAGES[:1], ALL).items():
        assert np.allclose(answer, whole[name][:1], rtol=0, atol=1e-6 * np.abs(whole[name]).max())


def test_only_what_is_asked_for_comes_back(session):
    assert session.run(IMAGES[:3], ("features",)).keys() == {"features"}


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_no_images_give_no_answers_of_the_right_shape(engine):
    pytest.importorskip(engine)
    answers = open_session(make_graph(classes=3), engine).run(IMAGES[:0], ("logits", "map"))
    assert answers["logits"].shape == (0, 3)
    assert answers["map"].shape == (0, CHANNELS, 8, 8)


def test_openvino_gives_the_answers_of_onnx_runtime(whole):
    pytest.importorskip("openvino")
    session = open_session(make_graph(classes=3), "openvino", threads=1)
    for count in (1, 5, 40):
        answers = session.run(IMAGES[:count], ALL)
        for name in ALL:
            assert np.allclose(
                answers[name], whole[name][:count], rtol=0, atol=1e-5 * np.abs(whole[name]).max()
            )


def test_openvino_sessions_come_and_go_without_waiting_for_ever():
    pytest.importorskip("openvino")
    for _ in range(20):
        open_session(make_graph(), "openvino").run(IMAGES, ("logits",))


def test_openvino_reports_its_use_to_nobody(tmp_path):
    pytest.importorskip("openvino")
    program = (
        "import sys\n"
        "from freezeframe.bundle.runtime.sessions import import_engine\n"
        "import_engine('openvino')\n"
        "sys.exit(any(name.startswith('openvino_telemetry') and module for name, module in sys.modules.items()))\n"
    )
    # Where it may report, it first notes an identity in the home folder; within CI it would not.
    environment = {
        name: value for name, value in os.environ.items() if name not in ("CI", "TF_BUILD", "JENKINS_URL")
    }
    done = subprocess.run(
        [sys.executable, "-c", program], env={**environment, "HOME": str(tmp_path)}, timeout=120
    )
    assert done.returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_a_missing_engine_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UserError, match=r"pip install 'freezeframe\[openvino\]'"):
        open_session(make_graph(), "openvino")


def test_an_unknown_engine_is_refused_with_the_nearest():
    with pytest.raises(UserError, match="did you mean 'openvino'"):
        open_session(make_graph(), "openvin")  # type: ignore[arg-type]


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_what_is_no_graph_is_named(engine):
    pytest.importorskip(engine)
    with pytest.raises(FreezeframeError, match=f"{engine} can't read the graph"):
        open_session(b"no graph", engine)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_images_of_another_size_are_refused_with_their_shape(engine):
    pytest.importorskip(engine)
    with pytest.raises(FreezeframeError, match=r"\(1, 32, 32\)"):
        open_session(make_graph(), engine).run(IMAGES[:2, :1], ("logits",))


def test_an_output_that_is_not_there_is_named(session):
    with pytest.raises(FreezeframeError, match="not maps"):
        session.run(IMAGES[:1], ("maps",))
