"""Small files in the formats that the data sets' authors publish; all text is made up here."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from pathlib import Path


def make_pubmedqa(data: Path, count: int = 12) -> None:
    folder = data / "pubmedqa"
    folder.mkdir()
    rows = {
        str(number): {
            "QUESTION": f"Does remedy {number} help?",
            "CONTEXTS": ["First part of it.", "In the end they felt better."],
            "final_decision": ("yes", "no", "maybe")[number % 3],
        }
        for number in range(count)
    }
    (folder / "ori_pqal.json").write_text(json.dumps(rows))
    (folder / "test_ground_truth.json").write_text(json.dumps({str(n): "yes" for n in range(count // 2)}))


def make_mts_dialog(data: Path, count: int = 12) -> None:
    folder = data / "mts-dialog"
    folder.mkdir()
    for name in ("MTS-Dialog-TrainingSet.csv", "MTS-Dialog-ValidationSet.csv"):
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["ID", "section_header", "section_text", "dialogue"])
            writer.writeheader()
            for number in range(count):
                dialogue = f"Doctor: Any allergies, {number}?\nPatient: None."
                writer.writerow({"ID": number, "section_header": "ALLERGY", "section_text": "-", "dialogue": dialogue})


def make_ncbi_disease(data: Path) -> None:
    folder = data / "ncbi-disease"
    folder.mkdir()
    block = [
        ("Hereditary", "B-Disease"), ("breast", "I-Disease"), ("cancer", "I-Disease"), ("and", "O"),
        ("ataxia", "B-Disease"), ("(", "O"), ("rare", "O"), (")", "O"), (",", "O"), ("ataxia", "B-Disease"), (".", "O"),
    ]  # fmt: skip
    plain = [("Nothing", "O"), ("T", "O"), ("-", "O"), ("cell", "O"), (".", "O")]
    text = "\n\n".join("\n".join("\t".join(row) for row in rows) for rows in (block, plain))
    for name in ("train.tsv", "test.tsv"):
        (folder / name).write_text(text + "\n", encoding="utf-8")


def make_medquad(data: Path, documents: dict[str, list[tuple[str, str]]]) -> None:
    """Focus -> (question, answer) pairs."""
    (data / "medquad").mkdir()
    with tarfile.open(data / "medquad/medquad.tar.gz", "w:gz") as archive:
        for number, (focus, pairs) in enumerate(documents.items()):
            qa = "".join(f"<QAPair><Question>{q}</Question><Answer>{a}</Answer></QAPair>" for q, a in pairs)
            xml = f"<Document><Focus>{focus}</Focus><QAPairs>{qa}</QAPairs></Document>".encode()
            info = tarfile.TarInfo(f"1_Some_QA/{number:07}.xml")
            info.size = len(xml)
            archive.addfile(info, io.BytesIO(xml))
