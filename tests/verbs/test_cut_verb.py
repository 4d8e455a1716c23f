"""The table of a divided network says what trains."""

from freezeframe.backbones import zoo
from freezeframe.recipe import Adapters
from freezeframe.verbs.cut import cut


def test_unfrozen_parts_count_all_their_parameters():
    table = cut("efficientnet-lite0", {"blocks": 1}, input_size=(64, 64))
    assert [row.state for row in table.rows[-3:]] == ["frozen", "trains", "trains"]
    assert all(row.trainable == row.parameters for row in table.rows[-2:])


def test_adapters_are_counted_layer_by_layer_beside_what_stays_frozen():
    plain = cut("efficientnet-lite0", {"blocks": 1}, input_size=(64, 64))
    table = cut("efficientnet-lite0", {"blocks": 1}, input_size=(64, 64), adapters=Adapters(rank=4))
    rows = {row.name: (row.state, row.trainable) for row in table.rows[-6:]}
    assert rows == {
        "blocks.6, conv_head, bn2": ("in part", 4 * (192 + 1152 + 1152 + 320 + 320 + 1280)),
        "blocks.6.0.conv_pw": ("adapters", 4 * (192 + 1152)),
        "blocks.6.0.conv_dw": ("recomputed", 0),
        "blocks.6.0.conv_pwl": ("adapters", 4 * (1152 + 320)),
        "conv_head": ("adapters", 4 * (320 + 1280)),
        zoo.build("efficientnet-lite0", 2, "none", announce=False).head: ("trains", 2 * 1281),
    }
    assert (table.shapes, table.cut_before) == (plain.shapes, plain.cut_before)
