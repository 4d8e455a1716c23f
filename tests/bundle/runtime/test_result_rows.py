"""Rows of results, and shards of them as one file of each kind."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest

from freezeframe.bundle.runtime.predictor import Answers
from freezeframe.bundle.runtime.results import Layout, Shard, Summary, check_out, join
from freezeframe.bundle.runtime.sentences import InputWarning
from freezeframe.bundle.runtime.spool import Row
from freezeframe.errors import UserError

LAYOUT = Layout(("normal", "pneumonia"), ("one", "two"), True, "youden", "f" * 64)
ROWS = [Row(f"{name}.png", f"/{name}.png", 0, "", ("7",)) for name in "abc"]


def answers(distances: list[list[float]], warnings: tuple[InputWarning, ...] = ()) -> Answers:
    """What two members say of N images; the second is the surer of pneumonia."""
    count = len(distances)
    logits = np.zeros((2, count, 2), np.float32)
    logits[1, :, 1] = 1
    probabilities = np.tile([0.25, 0.75], (count, 1))
    return Answers(
        logits, probabilities, probabilities[:, ::-1], np.ones(count, np.int64), np.full(count, 0.125),
        (warnings,) * count, np.array(distances).T,
    )  # fmt: skip


def filled(**more) -> Shard:
    layout = Layout(**{**vars(LAYOUT), "carried": ("age",), **more})
    shard = Shard(layout, ROWS)
    shard.take([2, 0], answers([[0.5, 2.0], [0.25, 0.5]]))
    shard.fail(1, "it is empty (zero bytes).")
    return shard


def written(tmp_path: Path, suffix: str, **more) -> tuple[Path, Summary]:
    shard = filled(**more)
    parts = [tmp_path / f"{number}.parquet" for number in range(2)]
    for part in parts:
        pyarrow.parquet.write_table(shard.table(), part)
    return tmp_path / f"out{suffix}", join(parts, 6, shard.layout.schema, tmp_path / f"out{suffix}")


def test_answers_stand_in_the_rows_of_their_images_and_errors_in_their_own():
    table = filled().table().to_pandas()
    assert table["image"].tolist() == ["a.png", "b.png", "c.png"]
    assert table["age"].tolist() == ["7"] * 3
    assert table["decision"].tolist()[::2] == ["pneumonia"] * 2
    assert table["error"].tolist()[1] == "it is empty (zero bytes)."
    assert table.loc[1, ["probability_normal", "calibrated_normal", "spread", "distance"]].isna().all()
    assert table["probability_pneumonia"].tolist()[::2] == [0.75, 0.75]
    assert table["calibrated_pneumonia"].tolist()[::2] == [0.25, 0.25]
    assert set(table["bundle"]) == {"f" * 64}
    assert set(table["operating_point"]) == {"youden"}


def test_the_distance_is_above_one_where_half_of_the_members_flag_the_image():
    table = filled().table().to_pandas()
    assert table["distance"].tolist()[::2] == [0.5, 2.0]
    three = Layout(**{**vars(LAYOUT), "members": ("one", "two", "three")})
    shard = Shard(three, ROWS[:1])
    found = answers([[0.5, 2.0, 0.75]])
    shard.take([0], Answers(**{**vars(found), "logits": np.zeros((3, 1, 2), np.float32)}))
    assert shard.table()["distance"].to_pylist() == [0.75]


def test_each_member_s_probabilities_are_written_where_they_are_wanted():
    table = filled(each_member=True).table().to_pandas()
    assert table["probability_pneumonia@one"].tolist()[::2] == [0.5, 0.5]
    assert table["probability_pneumonia@two"].tolist()[0] == pytest.approx(1 / (1 + np.exp(-1)))
    assert table["distance@two"].tolist()[::2] == [0.5, 2.0]
    assert not [name for name in filled().table().schema.names if "@" in name]


def test_there_are_no_calibrated_columns_without_a_temperature_and_a_table_s_own_stays():
    shard = Shard(Layout(**{**vars(LAYOUT), "calibrated": False, "carried": ("calibrated_normal",)}), ROWS)
    names = shard.layout.schema.names
    assert [name for name in names if name.startswith("calibrated")] == ["calibrated_normal"]
    assert shard.table()["calibrated_normal"].to_pylist() == ["7"] * 3


@pytest.mark.parametrize(("lang", "word"), [("en", "inverted"), ("es", "invertida")])
def test_warnings_are_keys_and_sentences(lang, word):
    shard = Shard(Layout(**{**vars(LAYOUT), "lang": lang}), ROWS[:1])
    shard.take([0], answers([[1, 1]], (InputWarning("inverted"), InputWarning("border", "0.812"))))
    table = shard.table()
    assert table["warnings"].to_pylist() == ["inverted border"]
    assert word in table["warning_sentences"].to_pylist()[0]
    assert "81" in table["warning_sentences"].to_pylist()[0]


def test_every_format_holds_the_same_rows(tmp_path):
    parquet = pd.read_parquet(written(tmp_path, ".parquet")[0])
    csv = pd.read_csv(written(tmp_path, ".csv")[0], dtype={"age": "str"}, float_precision="round_trip")
    lines = [json.loads(line) for line in written(tmp_path, ".jsonl")[0].read_text().splitlines()]
    for name in parquet.columns:
        for a, b, c in zip(parquet[name], csv[name], lines, strict=True):
            if pd.isna(a):
                assert pd.isna(b)
                assert c[name] is None
            elif name == "warnings":
                assert (a, c[name]) == ("", [])
            elif name != "warning_sentences":
                assert a == b == c[name]


def test_what_is_written_is_counted(tmp_path):
    _, summary = written(tmp_path, ".csv")
    assert (summary.images, summary.unreadable) == (6, 2)
    assert summary.decisions == {"pneumonia": 4}
    assert summary.examples == ["b.png: it is empty (zero bytes)."] * 2


@pytest.mark.parametrize("name", ["answers.xlsx", "answers", "folder.csv"])
def test_a_format_that_is_not_known_is_refused(tmp_path, name):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UserError, match="--out is"):
        check_out(tmp_path / name)
