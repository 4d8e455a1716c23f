"""Worker processes: order, isolation, and that none is left behind."""

import contextlib
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
import worker_functions
from PIL import Image

from freezeframe.data.manifest import ImageReference
from freezeframe.errors import FreezeframeError
from freezeframe.imaging.preprocess import Preprocessing, prepare_image
from freezeframe.imaging.workers import CHUNK, Pool, UnreadableImage, map_images

PREPARE = partial(
    prepare_image, preprocessing=Preprocessing.from_steps(None, (16, 16), (0.5,) * 3, (0.5,) * 3)
)


def named(*names: str) -> list[ImageReference]:
    return [ImageReference(Path(f"/images/{name}.dcm"), frame=3) for name in names]


def children() -> list[psutil.Process]:
    """The workers of this process; other tests may have left it a database server."""
    alive = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    return [child for child in alive if "imaging.worker_process" in " ".join(child.cmdline())]


def gone(process_ids: list[int]) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        alive = [pid for pid in process_ids if psutil.pid_exists(pid)]
        if all(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE for pid in alive):
            return True
        time.sleep(0.05)
    return False


def test_results_come_in_order_with_their_frames():
    references = named(*(f"fine-{number}" for number in range(101)))
    results = list(map_images(worker_functions.behave, references, workers=2))
    assert results == [(number, (number, 3)) for number in range(101)]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("segfault-0", "crashes its decoder (SIGSEGV)"),
        ("hang-0", "longer than 2 s"),
        ("stuck-0", "longer than 2 s"),
        ("raise-0", "KeyError"),
        ("unreadable-0", "it is meant to be."),
        ("exit-0", "exit code 3"),
        ("memory-0", "memory"),
        ("wrong-0", "answer is none"),
        ("unsendable-0", "TypeError: a PosixPath can't be sent"),
        ("pickle-0", "answer is none"),
        ("huge-0", "answer is none (a message of 4,611,686,018,427,387,904 bytes)"),
        ("short-0", "crashes its decoder (exit code 0)"),
        ("drip-0", "longer than 2 s"),
        ("junk-0", "answer is none"),
        ("silent-0", "crashes its decoder (it went silent)"),
    ],
)
def test_what_goes_wrong_with_an_image_costs_this_one_only(name: str, reason: str):
    names = [f"fine-{number}" for number in range(11)]
    names[5] = name
    results = [
        outcome for _, outcome in map_images(worker_functions.behave, named(*names), workers=1, timeout=2)
    ]
    assert isinstance(results[5], UnreadableImage)
    assert reason in results[5].reason
    assert name in str(results[5])
    assert results[:5] + results[6:] == [(number, 3) for number in range(11) if number != 5]


def test_an_image_that_another_ones_damage_took_down_has_a_second_chance(tmp_path: Path):
    references = [ImageReference(tmp_path / f"once-{number}.dcm") for number in range(3)]
    assert list(map_images(worker_functions.behave, references, workers=1)) == [(n, (n, 0)) for n in range(3)]


def test_what_codecs_print_does_not_disturb(capfd: pytest.CaptureFixture[str]):
    results = list(map_images(worker_functions.behave, named("noise-1", "fine-2"), workers=1))
    assert results == [(0, (1, 3)), (1, (2, 3))]
    assert "noise" not in "".join(capfd.readouterr())


def test_memory_stays_flat_and_few_are_in_flight():
    references = [ImageReference(Path("/images/large.dcm"), frame) for frame in range(120)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for index, pixels in map_images(worker_functions.large, references, workers=2):
        assert isinstance(pixels, np.ndarray)
        assert pixels[0, 0] == index % 256
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < 4 * (2 * CHUNK * 2) * 2 + 50  # of 480 MB in all


def test_workers_have_one_thread_and_end_with_the_generator():
    outcomes = map_images(worker_functions.process_id, named(*["fine-0"] * 100), workers=2)
    _, outcome = next(outcomes)
    assert not isinstance(outcome, UnreadableImage)
    assert outcome[1] == "1"
    process_ids = [child.pid for child in children()]
    assert outcome[0] in process_ids
    outcomes.close()  # type: ignore[attr-defined]
    assert gone(process_ids)


def test_workers_import_neither_torch_nor_pandas(tmp_path: Path):
    _, imported = next(map_images(worker_functions.modules, named("fine-0"), workers=1))
    assert not isinstance(imported, UnreadableImage)
    assert "numpy" in imported
    assert not {"torch", "pandas", "scipy", "sklearn", "matplotlib", "pydicom"} & set(imported)


def test_preparing_imports_neither_torch_nor_pandas():
    program = (
        "import sys, freezeframe.imaging.workers, freezeframe.imaging.preprocess, freezeframe.imaging.dicom; "
    )
    program += "print({'torch', 'timm', 'pandas', 'scipy', 'sklearn'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "set()"


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_workers_die_with_their_parent(tmp_path: Path, sent: signal.Signals):
    program = f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        import worker_functions
        from freezeframe.imaging.worker_process import Reference
        from freezeframe.imaging.workers import map_images
        stuck = [Reference(Path("/images/fine-0"), 0)] * 4 + [Reference(Path("/images/stuck-0"), 0)] * 20
        for _ in map_images(worker_functions.behave, stuck, workers=2):
            print("begun", flush=True)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        # A shell that runs the tests in the background has its children ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"begun\n"
        process_ids = [child.pid for child in psutil.Process(parent.pid).children()]
        assert process_ids
        os.kill(parent.pid, sent)
        parent.wait(20)
    assert gone(process_ids)


def test_a_plain_script_without_main_guard_runs_once(tmp_path: Path):
    for number in range(40):
        Image.new("L", (40, 40), number).save(tmp_path / f"{number:02d}.png")
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(f"""
        print("script begins")
        from functools import partial
        from pathlib import Path
        from freezeframe.imaging.preprocess import Preprocessing, prepare_image
        from freezeframe.imaging.worker_process import Reference
        from freezeframe.imaging.workers import map_images
        prepare = partial(prepare_image, preprocessing=Preprocessing.from_steps(None, (8, 8), [0] * 3, [1] * 3))
        references = [Reference(path, 0) for path in sorted(Path({str(tmp_path)!r}).glob("*.png"))]
        print([int(pixels[0, 0]) for _, pixels in map_images(prepare, references)])
        """)
    )
    expected = f"script begins\n{list(range(40))}\n"
    for command in ([str(script)], ["-c", script.read_text()]):
        assert subprocess.check_output([sys.executable, *command], text=True) == expected


def test_few_small_images_need_no_processes_but_dicom_does(tmp_path: Path, shared_data: Path):
    Image.new("L", (40, 40), 7).save(tmp_path / "a.png")
    small = [ImageReference(tmp_path / "a.png"), ImageReference(tmp_path / "missing.png")]
    results = map_images(PREPARE, small)
    _, pixels = next(results)
    assert isinstance(pixels, np.ndarray)
    assert (pixels == 7).all()
    assert not children()
    assert isinstance(next(results)[1], UnreadableImage)
    dicom = ImageReference(shared_data / "dicom" / "chest_cr" / "cr_mono1_10bit_explicit_le.dcm")
    results = map_images(PREPARE, [dicom])
    assert isinstance(next(results)[1], np.ndarray)
    assert children()
    results.close()  # type: ignore[attr-defined]


def test_an_iterator_is_read_as_far_ahead_as_is_worked_on():
    taken = []

    def endless():
        for number in range(10_000):
            taken.append(number)
            yield ImageReference(Path(f"/images/fine-{number}.dcm"))

    with contextlib.closing(
        map_images(worker_functions.behave, endless(), workers=2, total=10_000)
    ) as outcomes:  # type: ignore[type-var]
        for index, outcome in outcomes:
            assert outcome == (index, 0)
            if index == 500:
                break
    assert 500 < len(taken) <= 501 + 2 * CHUNK * 2


def test_an_iterator_of_few_small_images_is_read_here(tmp_path: Path):
    Image.new("L", (40, 40), 7).save(tmp_path / "a.png")
    results = map_images(PREPARE, iter([ImageReference(tmp_path / "a.png")] * 3), total=3)
    assert [index for index, _ in results] == [0, 1, 2]
    assert not children()


def test_an_empty_sequence_gives_nothing():
    assert list(map_images(PREPARE, iter(()), workers=2, total=0)) == []
    assert list(map_images(PREPARE, [], workers=2)) == []


def test_a_function_that_workers_can_not_import_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(FreezeframeError, match="can't be given"):
        list(map_images(lambda reference: reference, named("fine-0"), workers=1))
    monkeypatch.setattr(worker_functions, "__name__", "worker_functions")
    monkeypatch.setattr(worker_functions.behave, "__module__", "__main__")
    with pytest.raises(FreezeframeError, match="put it into a module"):
        list(map_images(worker_functions.behave, named("fine-0"), workers=1))


def test_a_function_that_does_not_say_what_it_returns_is_refused():
    with pytest.raises(TypeError, match="must say in its annotation what it returns"):
        list(map_images(worker_functions.unsaid, named("fine-0"), workers=1))


def test_nothing_is_unpickled_of_what_a_worker_sends(tmp_path: Path):
    reference = ImageReference(tmp_path / "pickle-0.dcm")
    ((_, outcome),) = map_images(worker_functions.behave, [reference], workers=1)
    assert isinstance(outcome, UnreadableImage)
    assert not list(tmp_path.iterdir())


def test_a_path_of_any_bytes_reaches_the_worker():
    path = Path(os.fsdecode(b"/images/\xff\xe9/fine-7.dcm"))
    assert list(map_images(worker_functions.behave, [ImageReference(path)], workers=1)) == [(0, (7, 0))]


def test_a_result_that_is_too_large_costs_its_image_only():
    with contextlib.closing(Pool(worker_functions.large, 1, answer_limit=1_000_000)) as pool:
        ((_, outcome),) = pool.map(named("fine-1"))
        assert "4,000,0" in outcome.reason


def test_a_module_that_fails_in_the_worker_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    module = tmp_path / "only_here_once.py"
    module.write_text("def function(reference) -> int:\n    return 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    import only_here_once  # type: ignore[import-not-found]

    module.write_text("raise RuntimeError('broken module')\n")
    with pytest.raises(FreezeframeError, match="broken module"):
        list(map_images(only_here_once.function, named("fine-0"), workers=1))


def test_a_pool_keeps_its_processes_from_one_call_to_the_next():
    with contextlib.closing(Pool(worker_functions.process_id, 1)) as pool:
        ids = {outcome[0] for _ in range(3) for _, outcome in pool.map(named("fine-1"))}
    assert len(ids) == 1
    assert gone(list(ids))


def test_a_pool_replaces_a_process_that_an_image_took_down():
    with contextlib.closing(Pool(worker_functions.behave, 1)) as pool:
        ((_, crashed),) = pool.map(named("segfault-1"))
        assert "crashes its decoder" in crashed.reason
        assert list(pool.map(named("fine-7"))) == [(0, (7, 3))]


def test_a_pool_whose_outcomes_are_not_all_taken_is_closed():
    with contextlib.closing(Pool(worker_functions.behave, 1)) as pool:
        outcomes = pool.map(named("fine-1", "fine-2"))
        next(outcomes)
        outcomes.close()
        with pytest.raises(FreezeframeError, match="closed"):
            next(pool.map(named("fine-3")))


def test_a_pool_limits_memory_as_it_is_told():
    with contextlib.closing(Pool(worker_functions.large, 1, memory_limit=900 * 1024**2)) as pool:
        ((_, outcome),) = pool.map(named("fine-1"))
        assert outcome.nbytes == 4_000_000
    with contextlib.closing(Pool(worker_functions.behave, 1, memory_limit=2 * 1024**3)) as pool:
        ((_, outcome),) = pool.map(named("memory-1"))
        assert "memory" in outcome.reason
