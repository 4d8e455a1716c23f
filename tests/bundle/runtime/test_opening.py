"""Opening bundles: whole ones, changed ones, and what pretends to be one."""

import contextlib
import copy
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from bundle.making import CLASSES, make_bundle, make_contents, make_graph, onnx_model
from freezeframe.bundle.runtime.folder import Bundle, open_bundle
from freezeframe.bundle.runtime.seal import CHECKSUMS, pack, seal
from freezeframe.errors import UserError

FUZZ = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def bundle(tmp_path) -> Path:
    return make_bundle(tmp_path / "bundle")


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> tuple[Path, Path, dict[str, bytes]]:
    """A folder, its zip and what both hold, that no test changes."""
    root = tmp_path_factory.mktemp("pristine")
    folder = make_bundle(root / "bundle")
    return folder, pack(folder, root / "small.ffb"), held(open_bundle(folder))


def held(bundle: Bundle) -> dict[str, bytes]:
    return {name: bundle.read(name) for name in bundle.checksums}


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        open_bundle(path)
    assert caught.value.action or caught.value.expected
    return str(caught.value)


def test_a_bundle_opens_as_folder_and_as_zip_with_one_identity(pristine):
    folder, packed, contents = pristine
    opened = [open_bundle(path) for path in (folder, packed)]
    assert opened[0].sha256 == opened[1].sha256
    assert held(opened[1]) == contents
    assert opened[0].contents == opened[1].contents
    assert opened[0].contents.labels == CLASSES
    assert opened[0].path == folder
    assert not opened[0].signed


def test_the_graph_of_a_bundle_runs(pristine):
    bundle = open_bundle(pristine[1])
    session = onnxruntime.InferenceSession(bundle.read(bundle.contents.members[0].graph))
    images = np.zeros((5, 3, 32, 32), np.float32)
    answers = session.run(["logits", "features", "map"], {"images": images})
    assert [np.asarray(answer).shape for answer in answers] == [(5, 2), (5, 4), (5, 4, 8, 8)]


def test_a_file_that_the_bundle_does_not_have_is_not_read(pristine):
    with pytest.raises(UserError, match=r"has no file \.\./secret"):
        open_bundle(pristine[0]).read("../secret")


def test_a_file_that_changes_while_the_bundle_is_in_use_is_not_read(bundle):
    opened = open_bundle(bundle)
    content = bytearray((bundle / "card.md").read_bytes())
    content[0] ^= 1
    (bundle / "card.md").write_bytes(content)
    with pytest.raises(UserError, match="changed while the bundle was in use"):
        opened.read("card.md")


def test_missing_changed_and_extra_files_are_all_named_at_once(bundle):
    (bundle / "members/member0.onnx").unlink()
    (bundle / "card.md").write_text("# better\n")
    (bundle / "notes.txt").touch()
    message = refusal(bundle)
    assert "members/member0.onnx is missing" in message
    assert "card.md is changed" in message
    assert f"notes.txt is not in {CHECKSUMS}" in message


def test_a_bundle_without_checksums_is_refused(bundle):
    (bundle / CHECKSUMS).unlink()
    assert f"has no {CHECKSUMS}" in refusal(bundle)


def test_a_folder_of_images_is_no_bundle(tmp_path):
    (tmp_path / "a.png").touch()
    assert "freezeframe export" in refusal(tmp_path)


@pytest.mark.parametrize("version", [0, 2, "1", None, [1]])
def test_another_schema_version_is_refused(tmp_path, version):
    message = refusal(make_bundle(tmp_path / "bundle", changes={"schema_version": version}))
    assert f"schema version {version}" in message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rule": "magic"}, "rule"),
        ({"temperature": 0}, "temperature"),
        ({"classes": [{"label": "one"}]}, "classes"),
        ({"classes": [{"label": "one"}, {"label": "one"}], "operating_points": []}, "two classes have the same name"),
        ({"classes": [{"label": "one"}, {"label": "two"}]}, "is about the class 'PNEUMONIA'"),
        ({"members": []}, "members"),
        ({"surprise": 1}, "surprise"),
        ({"licence": None}, "licence"),
    ],
)  # fmt: skip
def test_a_description_that_is_wrong_is_refused_with_its_field(tmp_path, changes, message):
    assert message in refusal(make_bundle(tmp_path / "bundle", changes=changes))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("graph", "members/other.onnx", "members/other.onnx of the member member0, which is not there"),
        ("graph", "../other.onnx", "no plain path inside"),
        ("graph", "/etc/passwd", "no plain path inside"),
        ("graph", "card.md", "a file .onnx"),
        ("heat", "card.md", "a file .safetensors or .onnx"),
        ("reference", "members/member0.onnx", "a file .safetensors"),
        ("weight", -1, "weight"),
        ("preprocessing", {}, "version"),
    ],
)
def test_a_member_that_is_wrong_is_refused(tmp_path, field, value, message):
    members = make_contents()["members"]
    members[0][field] = value
    assert message in refusal(make_bundle(tmp_path / "bundle", changes={"members": members}))


def test_weights_that_are_all_0_are_refused(tmp_path):
    members = [member | {"weight": 0} for member in make_contents()["members"]]
    changes = {"rule": "weighted", "members": members}
    assert "all members have the weight 0" in refusal(make_bundle(tmp_path / "bundle", changes=changes))


@pytest.mark.parametrize("threshold", ["high", None, [0.5]])
def test_a_threshold_that_is_no_number_is_refused(tmp_path, threshold):
    points = make_contents()["operating_points"]
    points[0]["point"]["threshold"] = threshold
    message = refusal(make_bundle(tmp_path / "bundle", changes={"operating_points": points}))
    assert "threshold" in message


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{", b"\xff\xfe", b'{"a": NaN}', b'{"a": 1e999}', b"[" * 100_000, b"9" * 10_000]
)
def test_a_description_that_is_no_json_object_is_refused(tmp_path, content):
    assert "bundle.json" in refusal(make_bundle(tmp_path / "bundle", more={"bundle.json": content}))


def test_a_description_that_would_fill_the_memory_is_not_read(bundle):
    with (bundle / "bundle.json").open("r+b") as handle:
        handle.truncate(100 << 20)
    seal(bundle)
    assert "104,857,600 bytes" in refusal(bundle)


@pytest.mark.parametrize("name", ["members/member0.onnx", "extra.onnx"])
def test_a_graph_with_data_outside_is_refused_also_where_no_member_names_it(tmp_path, name):
    model = onnx_model()
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../etc/passwd")
    assert "in another file" in refusal(
        make_bundle(tmp_path / "bundle", more={name: model.SerializeToString()})
    )


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 8, b"\x02" + bytes(7) + b"{}extra", b"\x80\x04K\x01." + bytes(20)]
)
def test_tensors_that_are_broken_are_refused(tmp_path, content):
    bundle = make_bundle(tmp_path / "bundle", more={"members/member0.heat.safetensors": content})
    assert "member0.heat.safetensors can't be read as safetensors" in refusal(bundle)


def test_a_pickle_in_a_bundle_is_never_run(tmp_path):
    ran = tmp_path / "ran"
    harmful = b"cos\nsystem\n(S'touch " + str(ran).encode() + b"'\ntR."
    bundle = make_bundle(tmp_path / "bundle", more={"weights.pt": harmful, "members/member1.onnx": harmful})
    assert "can't be read as an ONNX model" in refusal(bundle)
    assert not ran.exists()


def test_a_zip_with_a_top_folder_says_that_it_has_no_checksums(pristine, tmp_path):
    path = Path(shutil.make_archive(str(tmp_path / "zipped"), "zip", pristine[0].parent, "bundle"))
    assert f"has no {CHECKSUMS}" in refusal(path)


def test_a_zip_by_another_program_opens(pristine, tmp_path):
    path = Path(shutil.make_archive(str(tmp_path / "zipped"), "zip", pristine[0]))
    assert held(open_bundle(path)) == pristine[2]


@given(data=st.data())
@FUZZ
def test_any_edit_of_a_folder_is_refused_or_changes_nothing(pristine, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("edited") / "bundle"
    shutil.copytree(pristine[0], folder)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    for _ in range(data.draw(st.integers(1, 2))):
        path = folder / data.draw(st.sampled_from(names))
        if path.is_symlink() or not path.is_file():
            continue
        edit = data.draw(
            st.sampled_from(["flip", "truncate", "extend", "remove", "rename", "swap", "add", "link"])
        )
        content = path.read_bytes()
        place = data.draw(st.integers(0, len(content) - 1)) if content else 0
        if edit == "flip":
            bit = 1 << data.draw(st.integers(0, 7))
            path.write_bytes(
                content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :] if content else b""
            )
        elif edit == "truncate":
            path.write_bytes(content[:place])
        elif edit == "extend":
            path.write_bytes(content + data.draw(st.binary(max_size=5)))
        elif edit == "remove":
            path.unlink()
        elif edit == "rename":
            path.rename(path.with_name("other" + path.suffix))
        elif edit == "swap":
            other = folder / data.draw(st.sampled_from(names))
            if other.is_file() and not other.is_symlink():
                swapped = other.read_bytes()
                other.write_bytes(content)
                path.write_bytes(swapped)
        elif edit == "add":
            (folder / "added").write_bytes(content)
        else:
            path.unlink()
            path.symlink_to(pristine[0] / path.relative_to(folder))
    with contextlib.suppress(UserError):
        assert held(open_bundle(folder)) == pristine[2]


@given(data=st.data())
@FUZZ
def test_any_edit_of_a_zip_is_refused_or_changes_nothing(pristine, tmp_path_factory, data):
    content = bytearray(pristine[1].read_bytes())
    directory = content.rindex(b"PK\x01\x02") - 1000
    for _ in range(data.draw(st.integers(1, 4))):
        edit = data.draw(st.sampled_from(["flip", "set", "truncate", "insert", "copy"]))
        # The directory at the end is small, and where a zip is most easily misread.
        first = data.draw(st.sampled_from([0, max(0, min(directory, len(content) - 2))]))
        place = data.draw(st.integers(first, max(first, len(content) - 1)))
        if not content:
            break
        if edit == "flip":
            content[place] ^= 1 << data.draw(st.integers(0, 7))
        elif edit == "set":
            length = data.draw(st.sampled_from([1, 2, 4]))
            content[place : place + length] = data.draw(st.sampled_from([b"\xff", b"\x00"])) * length
        elif edit == "truncate":
            del content[place:]
        elif edit == "insert":
            content[place:place] = data.draw(st.binary(min_size=1, max_size=8))
        else:
            source = data.draw(st.integers(0, len(content) - 1))
            content[place : place + 30] = content[source : source + 30]
    path = tmp_path_factory.mktemp("edited") / "small.ffb"
    path.write_bytes(content)
    with contextlib.suppress(UserError):
        assert held(open_bundle(path)) == pristine[2]


@given(content=st.binary(max_size=500), signature=st.sampled_from([b"", b"PK\x03\x04", b"PK\x05\x06"]))
@FUZZ
def test_any_bytes_are_refused(tmp_path_factory, content, signature):
    path = tmp_path_factory.mktemp("any") / "small.ffb"
    path.write_bytes(signature + content)
    refusal(path)


def _places(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place, *(found for key, child in inner for found in _places(child, (*place, key)))]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


@given(data=st.data())
@FUZZ
def test_a_sealed_bundle_with_any_description_is_refused_or_opens(tmp_path_factory, data):
    contents = copy.deepcopy(make_contents(members=1))
    for _ in range(data.draw(st.integers(1, 3))):
        *above, last = data.draw(st.sampled_from(_places(contents)[1:]))
        inside: Any = contents
        for key in above:
            inside = inside[key]
        if data.draw(st.booleans()) and isinstance(inside, dict):
            del inside[last]
        else:
            inside[last] = data.draw(JSON)
    folder = tmp_path_factory.mktemp("described") / "bundle"
    make_bundle(folder, members=1, more={"bundle.json": json.dumps(contents).encode()})
    with contextlib.suppress(UserError):
        opened = open_bundle(folder).contents
        assert [member.prepared_by().height for member in opened.members]
        assert all(isinstance(point.threshold().threshold, float) for point in opened.operating_points)


@given(data=st.data())
@FUZZ
def test_a_sealed_bundle_with_any_graph_is_refused_or_opens(tmp_path_factory, data):
    graph = bytearray(make_graph())
    for _ in range(data.draw(st.integers(1, 3))):
        graph[data.draw(st.integers(0, len(graph) - 1))] = data.draw(st.integers(0, 255))
    folder = tmp_path_factory.mktemp("graph") / "bundle"
    make_bundle(folder, members=1, more={"members/member0.onnx": bytes(graph)})
    with contextlib.suppress(UserError):
        open_bundle(folder)


def test_a_zip_that_is_longer_than_the_bundle_it_holds_is_read_all_the_same(pristine, tmp_path):
    path = tmp_path / "small.ffb"
    shutil.copy(pristine[1], path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"a comment"
    assert held(open_bundle(path)) == pristine[2]
