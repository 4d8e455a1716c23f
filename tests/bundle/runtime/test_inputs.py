"""Lists of images: every kind of path, in bounded memory, and what is passed over."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundMultiFrameImageStorage, generate_uid

from freezeframe.bundle.runtime import inputs, spool, walk
from freezeframe.bundle.runtime.spool import Row, Spool
from freezeframe.errors import UserError

KEY = {"what": "a test"}


def gather(to: Path, *paths: Path | str, **more) -> Spool:
    return inputs.gather([str(path) for path in paths], to / "parts" / "inputs.parquet", 4, KEY, **more)


def rows(found: Spool) -> list[Row]:
    return [row for shard in range(len(found.sizes)) for row in found.read(shard)]


def png(path: Path, shade: int = 90) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), shade).save(path)
    return path


def dicom(path: Path, frames: int) -> Path:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    made = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
    made.Modality = "US"
    if frames:
        made.Rows = made.Columns = 4
        made.NumberOfFrames, made.SamplesPerPixel, made.PhotometricInterpretation = frames, 1, "MONOCHROME2"
        made.BitsAllocated = made.BitsStored = 8
        made.HighBit, made.PixelRepresentation = 7, 0
        made.PixelData = np.arange(16 * frames, dtype=np.uint8).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save_as(path, enforce_file_format=True)
    return path


def test_a_folder_is_read_with_all_below_it_in_the_order_of_names(tmp_path):
    for name in ("b/2.png", "b/10.png", "a.png", "c/d/e.png"):
        png(tmp_path / "in" / name)
    (tmp_path / "in/notes.txt").write_text("no image")
    (tmp_path / "in/b/.hidden.png").write_bytes(b"x")
    found = gather(tmp_path, tmp_path / "in")
    assert [Path(row.image).relative_to(tmp_path / "in").as_posix() for row in rows(found)] == [
        "a.png", "b/10.png", "b/2.png", "c/d/e.png"
    ]  # fmt: skip
    assert found.notes == ("Passed over 2 files that are no images, such as 'notes.txt'.",)
    assert found.key == KEY


def test_an_image_is_named_as_the_user_named_it_and_found_from_anywhere(tmp_path, monkeypatch):
    png(tmp_path / "in/a.png")
    monkeypatch.chdir(tmp_path)
    (row,) = rows(gather(tmp_path, "in"))
    assert (row.image, row.path) == ("in/a.png", str(tmp_path / "in/a.png"))


def test_paths_are_kept_in_the_order_in_which_they_were_given(tmp_path):
    given_paths = [png(tmp_path / name) for name in ("b.png", "in/c.png", "a.png")]
    found = gather(tmp_path, given_paths[0], tmp_path / "in", given_paths[2])
    assert [Path(row.image).name for row in rows(found)] == ["b.png", "c.png", "a.png"]


def test_each_frame_has_its_row(tmp_path):
    dicom(tmp_path / "in/film", 3)
    png(tmp_path / "in/z.png")
    Image.new("L", (8, 8)).save(
        tmp_path / "in/pages.tif", save_all=True, append_images=[Image.new("L", (8, 8))]
    )
    found = rows(gather(tmp_path, tmp_path / "in", workers=1))
    assert [(Path(row.image).name, row.frame) for row in found] == [
        ("film", 0), ("film", 1), ("film", 2), ("pages.tif", 0), ("pages.tif", 1), ("z.png", 0)
    ]  # fmt: skip
    assert not any(row.problem for row in found)


def test_a_dicom_report_is_passed_over_in_a_folder_and_has_a_row_where_it_is_named(tmp_path):
    report = dicom(tmp_path / "in/report.dcm", 0)
    dicom(tmp_path / "in/film.dcm", 1)
    found = gather(tmp_path, tmp_path / "in", workers=1)
    assert [Path(row.image).name for row in rows(found)] == ["film.dcm"]
    assert "Passed over 1 DICOM file without an image" in " ".join(found.notes)
    (row,) = rows(gather(tmp_path / "again", report, workers=1))
    assert row.problem == "it is a DICOM file without an image."


def test_a_damaged_dicom_file_keeps_its_row_and_reason(tmp_path):
    path = dicom(tmp_path / "in/film.dcm", 1)
    path.write_bytes(path.read_bytes()[:150])
    (row,) = rows(gather(tmp_path, tmp_path / "in", workers=1))
    assert row.problem


def test_a_table_s_other_columns_are_carried_through_and_none_is_called_like_a_result(tmp_path):
    png(tmp_path / "data/a.png")
    pd.DataFrame(
        {"Image": ["a.png", "b.png", ""], "age": ["7", "", "41"], "decision": ["x", "y", "z"]}
    ).to_csv(tmp_path / "data/list.csv", index=False)
    found = gather(tmp_path, tmp_path / "data/list.csv", taken=("image", "decision"))
    assert found.carried == ("age", "input_decision")
    first, second, third = rows(found)
    assert first == Row("a.png", str(tmp_path / "data/a.png"), 0, "", ("7", "x"))
    assert (second.image, second.problem, second.carried) == ("b.png", "there is no such file.", ("", "y"))
    assert (third.problem, third.carried) == ("list.csv names no file here.", ("41", "z"))


def test_tables_of_different_columns_and_folders_share_one_list(tmp_path):
    for name in ("a", "b", "c"):
        png(tmp_path / f"in/{name}.png")
    (tmp_path / "in/one.tsv").write_text("path\tage\na.png\t7\n")
    pd.DataFrame({"file": ["b.png"], "score": [3]}).to_parquet(tmp_path / "in/two.parquet")
    found = gather(tmp_path, tmp_path / "in/one.tsv", tmp_path / "in/two.parquet", tmp_path / "in/c.png")
    assert found.carried == ("age", "score")
    assert [row.carried for row in rows(found)] == [("7", ""), ("", "3"), ("", "")]


def test_a_renamed_column_does_not_meet_another_one(tmp_path):
    png(tmp_path / "a.png")
    (tmp_path / "list.csv").write_text("image,decision,input_decision\na.png,x,y\n")
    found = gather(tmp_path, tmp_path / "list.csv", taken=("decision",))
    assert found.carried == ("input_input_decision", "input_decision")
    assert rows(found)[0].carried == ("x", "y")


def test_a_table_in_a_folder_is_no_image(tmp_path):
    png(tmp_path / "in/a.png")
    (tmp_path / "in/list.csv").write_text("image\na.png\n")
    assert len(gather(tmp_path, tmp_path / "in")) == 1


def test_a_list_of_paths_may_hold_files_and_folders(tmp_path):
    png(tmp_path / "in/a.png")
    lines = [f"{tmp_path / 'in'}\n", "\n", f"{tmp_path / 'missing.png'}\r\n"]
    first, second = rows(gather(tmp_path, "-", lines=lines))
    assert Path(first.image).name == "a.png"
    assert second.problem == "there is no such file."


@pytest.mark.parametrize("path", ["missing", "list.csv", "empty"])
def test_what_leads_nowhere_is_refused(tmp_path, path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.csv").write_text("name,age\na.png,7\n")
    with pytest.raises(UserError, match=r"no file or folder|no column of image paths|no image in"):
        gather(tmp_path, tmp_path / path)
    assert not (tmp_path / "parts/inputs.parquet").exists()


def test_a_broken_table_is_refused_by_name(tmp_path):
    (tmp_path / "list.csv").write_text("image,age\na.png,7,8,9\n")
    with pytest.raises(UserError, match=r"list\.csv can't be read as a table"):
        gather(tmp_path, tmp_path / "list.csv")
    (tmp_path / "list.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(UserError, match=r"list\.parquet can't be read as a table"):
        gather(tmp_path, tmp_path / "list.parquet")


def test_a_name_that_is_not_utf_8_keeps_its_row(tmp_path):
    png(tmp_path / "in/a.png")
    shutil.copy(tmp_path / "in/a.png", os.fsencode(tmp_path / "in") + b"/caf\xe9.png")
    _, strange = rows(gather(tmp_path, tmp_path / "in"))
    assert "caf\\xe9.png" in strange.image
    assert "UTF-8" in strange.problem


def test_a_pipe_is_not_waited_for(tmp_path):
    png(tmp_path / "in/a.png")
    os.mkfifo(tmp_path / "in/pipe.png")
    assert len(gather(tmp_path, tmp_path / "in")) == 1
    (row,) = rows(gather(tmp_path / "again", "-", lines=[str(tmp_path / "in/pipe.png")]))
    assert row.problem == "there is no such file."


def test_links_lead_to_each_real_folder_once(tmp_path):
    png(tmp_path / "elsewhere/deep/b.png")
    png(tmp_path / "in/real/a.png")
    (tmp_path / "in/real/round").symlink_to(tmp_path / "in")
    (tmp_path / "in/1-deep").symlink_to(tmp_path / "elsewhere/deep")
    (tmp_path / "in/2-all").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "in/real")
    (tmp_path / "in/nowhere.png").symlink_to(tmp_path / "gone.png")
    found = gather(tmp_path, tmp_path / "in")
    assert [Path(row.image).name for row in rows(found)] == ["a.png", "b.png"]
    assert "Passed over 1 name that can't be opened, such as 'nowhere.png'." in found.notes


@settings(max_examples=25, deadline=None)
@given(
    names=st.sets(
        st.text(
            st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=8
        ).filter(lambda name: not name.startswith(".") and name.lower() != "dicomdir"),
        min_size=1,
        max_size=12,
    )
)
def test_a_folder_that_is_sorted_on_disk_gives_the_same_list(tmp_path_factory, names):
    folder = tmp_path_factory.mktemp("names")
    for name in names:
        (folder / f"{name}.png").touch()
    before, walk.ENTRIES_IN_MEMORY = walk.ENTRIES_IN_MEMORY, 3
    try:
        found = list(walk.walk(folder, walk.PassedOver(), folder))
    finally:
        walk.ENTRIES_IN_MEMORY = before
    assert found == sorted(f"{name}.png" for name in names)


def test_a_list_is_whole_or_not_there(tmp_path):
    def broken():
        yield Row("a.png", "/a.png", 0, "", ())
        raise RuntimeError

    with pytest.raises(RuntimeError):
        spool.write(tmp_path / "inputs.parquet", broken(), (), 4, KEY)
    assert spool.read(tmp_path / "inputs.parquet") is None


def test_something_else_in_the_list_s_place_is_refused(tmp_path):
    (tmp_path / "inputs.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="no list of images"):
        spool.read(tmp_path / "inputs.parquet")


MEASURE = """
import sys
from pathlib import Path
from freezeframe import machine
from freezeframe.bundle.runtime import inputs, walk
to, table = Path(sys.argv[1]), sys.argv[2]
inputs.gather([table], to / "small" / "x.parquet", 1024, {})
machine.forget_peak_memory()
before = machine.peak_memory()
found = inputs.gather([sys.argv[3]], to / "large" / "x.parquet", 1024, {})
print(len(found), machine.peak_memory() - before)
"""


def test_a_long_list_takes_no_more_memory_than_a_short_one(tmp_path):
    for name, rows_of in (("small", 20_000), ("large", 60_000)):
        with (tmp_path / f"{name}.csv").open("w") as handle:
            handle.write("image,comment\n")
            handle.writelines(f"{number:07d}.png,{'long ' * 20}\n" for number in range(rows_of))
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            MEASURE,
            str(tmp_path),
            str(tmp_path / "small.csv"),
            str(tmp_path / "large.csv"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    number, grown = map(int, done.stdout.split())
    assert number == 60_000
    assert grown < 10e6  # the table is 7 MB as text, and several times that as objects
