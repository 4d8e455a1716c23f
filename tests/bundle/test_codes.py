"""Coded concepts of classes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.sr.codedict import codes as dicom_codes

from freezeframe.bundle.codes import codes_for, default_table, is_snomed_identifier, write_table
from freezeframe.bundle.runtime.contents import Code
from freezeframe.errors import UserError

CLASSES = ("NORMAL", "PNEUMONIA")


def table(tmp_path, content: str):
    path = tmp_path / "codes.csv"
    path.write_text(content, encoding="utf-8")
    return path


def test_the_classes_of_the_demo_have_codes():
    codes = codes_for(CLASSES)
    assert codes["NORMAL"] == Code(scheme="SCT", value="17621005", meaning="Normal")
    assert codes["PNEUMONIA"] == Code(scheme="SCT", value="233604007", meaning="Pneumonia")


@pytest.mark.parametrize("label", ["covid-19 Pneumonia", "COVID_19_pneumonia", " neumonía por COVID-19 "])
def test_spellings_and_languages_of_a_label_find_one_code(label):
    (code,) = codes_for([label]).values()
    assert code is not None
    assert code.value == "882784691000119100"


def test_a_label_that_nobody_knows_has_no_code():
    assert codes_for(["knee", "NORMAL"])["knee"] is None


def test_every_code_of_the_table_that_comes_along_is_a_snomed_identifier():
    for label, code in default_table().items():
        assert code is not None
        assert code.scheme == "SCT"
        assert is_snomed_identifier(code.value), label


@pytest.mark.parametrize(
    ("label", "name"),
    [("pleural effusion", "PleuralEffusion"), ("pneumothorax", "Pneumothorax"), ("nodule", "Nodule"), ("mass", "Mass"),
     ("benign", "Benign"), ("malignant", "Malignant"), ("normal", "Normal"), ("abnormal", "Abnormal"),
     ("pulmonary edema", "PulmonaryEdema"), ("actinic keratosis", "ActinicKeratosis")],
)  # fmt: skip
def test_codes_that_dicom_has_too_are_dicoms(label, name):
    code = default_table()[label]
    assert code is not None
    assert code.value == getattr(dicom_codes.SCT, name).value


@given(st.integers(min_value=10**5, max_value=10**17 - 1), st.data())
@settings(max_examples=200)
def test_a_digit_that_was_changed_is_found_in_any_identifier(number, data):
    identifier = next(f"{number}{digit}" for digit in range(10) if is_snomed_identifier(f"{number}{digit}"))
    place = data.draw(st.integers(1, len(identifier) - 1))
    digit = data.draw(st.sampled_from([d for d in "0123456789" if d != identifier[place]]))
    assert not is_snomed_identifier(identifier[:place] + digit + identifier[place + 1 :])


def test_a_table_of_ones_own_says_what_each_class_means(tmp_path):
    path = table(tmp_path, "label;scheme;value;meaning\nNORMAL;99HOME;N1;Nothing\nPNEUMONIA;;;\n")
    assert codes_for(CLASSES, path) == {
        "NORMAL": Code(scheme="99HOME", value="N1", meaning="Nothing"),
        "PNEUMONIA": None,
    }


def test_a_written_table_is_read_back(tmp_path):
    codes = codes_for([*CLASSES, 'odd, "label"'])
    assert codes_for(list(codes), table(tmp_path, write_table(codes))) == codes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("label,scheme,value,meaning\nNORMAL,SCT,17621005,Normal\n", "lacks 'PNEUMONIA'"),
        ("label,scheme,value,meaning\nNORMAL,,,\nPNEUMONIA,,,\nKNEE,,,\n", "names 'KNEE'"),
        ("label,scheme,value,meaning\nNORMAL,,,\nnormal,,,\n", "lacks 'PNEUMONIA' and names 'normal'"),
        ("label,scheme,value,meaning\nNORMAL,,,\nPNEUMONIA,,,\nNORMAL,,,\n", "names the class 'NORMAL' twice"),
        ("label,scheme,value,meaning\nNORMAL,SCT,17621006,Normal\nPNEUMONIA,,,\n", "SNOMED CT code '17621006'"),
        ("label,scheme,value,meaning\nNORMAL,SCT,8.82785E+17,x\nPNEUMONIA,,,\n", "8.82785E+17"),
        ("label,scheme,value,meaning\nNORMAL,SCT,17621005,\nPNEUMONIA,,,\n", "meaning of the class 'NORMAL'"),
        ("label,scheme,value,meaning\nNORMAL,99A,b\\c,x\nPNEUMONIA,,,\n", "value of the class 'NORMAL'"),
        ("label,schema,value,meaning\n", "did you mean 'scheme'?"),
        ("label,scheme,value\n", "lacks the column 'meaning'"),
        ("", "is empty"),
    ],
)  # fmt: skip
def test_a_table_that_does_not_fit_the_classes_is_refused_by_name(tmp_path, content, message):
    with pytest.raises(UserError, match=message.replace("?", r"\?").replace("+", r"\+")):
        codes_for(CLASSES, table(tmp_path, content))


def test_a_table_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nothing\.csv"):
        codes_for(CLASSES, tmp_path / "nothing.csv")


@given(st.text(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_table_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_text(content, encoding="utf-8", errors="surrogatepass")
    with pytest.raises(UserError):
        codes_for(CLASSES, path)
