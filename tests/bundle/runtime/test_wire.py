"""ONNX files that reach outside themselves, found without `onnx`; the files are made with it."""

import contextlib

import numpy as np
import onnx
import pytest
from google.protobuf.descriptor import Descriptor
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from bundle.making import make_graph, onnx_model
from freezeframe.bundle.runtime import wire
from freezeframe.bundle.runtime.wire import check_onnx
from freezeframe.errors import UserError


def external(name: str = "weight") -> TensorProto:
    tensor = numpy_helper.from_array(np.zeros((2, 2), np.float32), name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    return tensor


def node_with(**attributes) -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["unused"], **attributes)


def as_initializer(model):
    model.graph.initializer.append(external())


def as_constant(model):
    model.graph.node.append(node_with(value=external()))


def in_a_branch(model):
    branch = helper.make_graph([], "branch", [], [], [external()])
    deeper = helper.make_graph([helper.make_node("If", ["c"], ["o"], then_branch=branch)], "deeper", [], [])
    model.graph.node.append(helper.make_node("If", ["c"], ["o"], then_branch=deeper, else_branch=deeper))


def in_a_function(model):
    model.functions.append(
        helper.make_function(
            "", "f", [], ["unused"], [node_with(value=external())], [helper.make_opsetid("", 17)]
        )
    )


def in_a_default_of_a_function(model):
    function = helper.make_function("", "f", [], [], [], [helper.make_opsetid("", 17)])
    function.attribute_proto.append(helper.make_attribute("value", external()))
    model.functions.append(function)


def in_training(model):
    model.training_info.add().algorithm.initializer.append(external())


def in_a_sparse_tensor(model):
    sparse = model.graph.sparse_initializer.add()
    sparse.indices.CopyFrom(external())


def in_an_attribute_with_several(model):
    node = model.graph.node.add(op_type="Constant")
    node.attribute.add(name="several", type=onnx.AttributeProto.TENSORS).tensors.append(external())


@pytest.mark.parametrize(
    "put",
    [as_initializer, as_constant, in_a_branch, in_a_function, in_a_default_of_a_function, in_training,
     in_a_sparse_tensor, in_an_attribute_with_several],
)  # fmt: skip
def test_data_in_another_file_is_found_wherever_it_is(put):
    model = onnx_model()
    put(model)
    with pytest.raises(UserError, match="in another file"):
        check_onnx(model.SerializeToString(), "a.onnx")


def test_a_location_without_a_path_is_refused_as_well():
    model = onnx_model()
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    with pytest.raises(UserError, match="in another file"):
        check_onnx(model.SerializeToString(), "a.onnx")


def test_data_in_another_file_that_a_second_graph_adds_is_found():
    # Protobuf merges the occurrences of a field, so that appended bytes change a model.
    added = onnx.ModelProto()
    added.graph.initializer.append(external())
    with pytest.raises(UserError, match="in another file"):
        check_onnx(make_graph() + added.SerializeToString(), "a.onnx")


@pytest.mark.parametrize(
    ("domain", "operator", "message"),
    [
        ("my.company", "Relu", "domain 'my.company'"),
        ("ai.onnx.contrib", "StringLower", "ai.onnx.contrib"),
        ("com.microsoft", "EPContext", "EPContext"),
    ],
)
def test_operators_that_onnx_runtime_does_not_bring_are_refused(domain, operator, message):
    model = onnx_model()
    model.graph.node.append(helper.make_node(operator, ["map"], ["unused"], domain=domain))
    with pytest.raises(UserError, match=message):
        check_onnx(model.SerializeToString(), "a.onnx")


@pytest.mark.parametrize("domain", ["", "ai.onnx", "ai.onnx.ml", "com.microsoft"])
def test_operators_that_onnx_runtime_brings_pass(domain):
    model = onnx_model()
    model.graph.node.append(helper.make_node("Relu", ["map"], ["unused"], domain=domain))
    check_onnx(model.SerializeToString(), "a.onnx")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it holds no graph"),
        (b"\x08\x08", "it holds no graph"),
        (make_graph()[:-5], "ends too early"),
        (b"\x3b\x3c", "type 3"),
        (b"\x80\x00\x00\x00ORTM" + bytes(100), "own format"),
        (b"\x3a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", "no number"),
        (b"\x00\x00", "no field"),
    ],
)
def test_what_is_no_onnx_model_is_refused(content, message):
    with pytest.raises(UserError, match=message):
        check_onnx(content, "a.onnx")


def test_graphs_in_graphs_without_end_are_refused():
    graph = helper.make_graph([], "graph", [], [])
    for _ in range(25):
        graph = helper.make_graph([helper.make_node("If", ["c"], ["o"], then_branch=graph)], "graph", [], [])
    model = helper.make_model(graph)
    with pytest.raises(UserError, match="nested"):
        check_onnx(model.SerializeToString(), "a.onnx")


def test_the_fields_that_are_followed_are_all_that_lead_to_tensors_and_operators():
    names = {
        "ModelProto": "model", "TrainingInfoProto": "training", "FunctionProto": "function", "GraphProto": "graph",
        "NodeProto": "node", "AttributeProto": "attribute", "SparseTensorProto": "sparse", "TensorProto": "tensor",
    }  # fmt: skip

    def followed(message: Descriptor) -> dict[int, str]:
        inner = {field.number: field.message_type for field in message.fields if field.message_type}
        return {number: names[kind.name] for number, kind in inner.items() if kind.name in names}

    kinds = [getattr(onnx, name).DESCRIPTOR for name in names if hasattr(onnx, name)]
    assert {names[kind.name]: followed(kind) for kind in kinds} == wire._MESSAGES
    fields = TensorProto.DESCRIPTOR.fields_by_name
    assert fields["external_data"].number == wire._EXTERNAL_DATA
    assert fields["data_location"].number == wire._DATA_LOCATION
    assert onnx.NodeProto.DESCRIPTOR.fields_by_name["op_type"].number == wire._OPERATOR
    assert onnx.NodeProto.DESCRIPTOR.fields_by_name["domain"].number == wire._DOMAIN["node"]
    assert onnx.FunctionProto.DESCRIPTOR.fields_by_name["domain"].number == wire._DOMAIN["function"]


def reaches_outside(model: onnx.ModelProto) -> bool:
    return any(
        tensor.external_data or tensor.data_location == TensorProto.EXTERNAL
        for tensor in model.graph.initializer
    )


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_no_edit_of_a_models_bytes_hides_from_the_check_what_onnx_would_read(data):
    model = onnx_model()
    model.graph.initializer.append(external())
    content = bytearray(model.SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    try:
        check_onnx(bytes(content), "a.onnx")
    except UserError:
        return
    try:
        parsed = onnx.load_model_from_string(bytes(content))
    except Exception:
        return
    assert not reaches_outside(parsed)


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_any_bytes_pass_or_are_refused(content):
    with contextlib.suppress(UserError):
        check_onnx(content, "a.onnx")
