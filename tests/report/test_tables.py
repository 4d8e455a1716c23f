import csv
import io

from freezeframe.report.language import load
from freezeframe.report.tables import Estimate, Quantity, Table, write

TABLE = Table(
    "scores",
    "Scores,\nall of them.",
    ("Network", "AUC", "Time", "Images"),
    (
        ("a_b & 5%", Estimate(0.98, 0.95, 0.99), Quantity(75.0, "1 min 15 s"), 1234),
        ("c", Estimate(None), None, 7),
    ),
)


def test_csv_holds_plain_numbers_with_the_bounds_in_columns_of_their_own():
    rows = list(csv.DictReader(io.StringIO(TABLE.csv())))
    assert rows[0] == {
        "Network": "a_b & 5%",
        "AUC": "0.98",
        "AUC (low)": "0.95",
        "AUC (high)": "0.99",
        "Time": "75.0",
        "Images": "1234",
    }
    assert rows[1]["AUC"] == rows[1]["AUC (low)"] == rows[1]["Time"] == ""


def test_latex_is_a_booktabs_tabular_with_special_characters_escaped():
    lines = TABLE.latex(load("en")).splitlines()
    assert lines[0] == "% Scores, all of them."
    assert lines[2] == r"\begin{tabular}{lrrr}"
    assert lines[3] == r"\toprule"
    assert lines[6] == r"a\_b \& 5\% & 0.980 (0.950~; 0.990) & 1 min 15 s & 1,234 \\"
    assert lines[-1] == r"\end{tabular}"


def test_spanish_latex_writes_decimal_commas():
    assert "0,980 (0,950~; 0,990)" in TABLE.latex(load("es"))


def test_a_difference_is_written_with_its_sign_and_a_missing_cell_as_a_dash():
    assert write(Estimate(0.01, -0.02, 0.03, signed=True), load("en")) == "+0.010 (\u22120.020\u00a0; +0.030)"
    assert write(None, load("en")) == "–"
