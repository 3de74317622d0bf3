"""Small files in the formats that the data sets' authors publish; all text is made up here."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

Token = tuple[str, str]


def make_pubmedqa(data: Path, count: int = 12) -> None:
    folder = data / "pubmedqa"
    folder.mkdir()
    rows = {
        str(number): {
            "QUESTION": f"Does remedy {number} help?",
            "CONTEXTS": ["First part of it.", "In the end they felt better."],
            "final_decision": ("yes", "no", "maybe")[number % 3],
            "LONG_ANSWER": f"Remedy {number} helps some. " * (number + 1),
        }
        for number in range(count)
    }
    (folder / "ori_pqal.json").write_text(json.dumps(rows))
    (folder / "test_ground_truth.json").write_text(json.dumps({str(n): "yes" for n in range(count // 2)}))


def make_mts_dialog(data: Path, count: int = 12, rows: Sequence[tuple[str, str, str]] = ()) -> None:
    """Three sets of `count` rows; `rows` (header, note, dialogue) come first in each."""
    folder = data / "mts-dialog"
    folder.mkdir()
    for letter, name in zip("abc", ("TrainingSet", "ValidationSet", "TestSet-1-MEDIQA-Chat-2023"), strict=True):
        made = [
            ("ALLERGY", f"None, {letter}{n}.", f"Doctor: Any, {letter}{n}? \nPatient:  None.") for n in range(count)
        ]
        with (folder / f"MTS-Dialog-{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["ID", "section_header", "section_text", "dialogue"])
            writer.writerows([number, *row] for number, row in enumerate([*rows, *made]))


def make_ncbi_disease(data: Path, sentences: Mapping[str, Sequence[Sequence[Token]]]) -> None:
    """Name of a set -> its sentences as (token, tag)."""
    folder = data / "ncbi-disease"
    folder.mkdir()
    for name in ("train", "devel", "test"):
        text = "\n\n".join("\n".join("\t".join(token) for token in sentence) for sentence in sentences[name])
        (folder / f"{name}.tsv").write_text(text + "\n", encoding="utf-8")


def make_medquad(
    data: Path, pages: Mapping[str, Sequence[tuple[str, str, str]]], codes: Mapping[str, Sequence[str]] | None = None
) -> None:
    """Focus -> (type, question, answer) of its page; focus -> its UMLS concepts."""
    (data / "medquad").mkdir()
    with tarfile.open(data / "medquad/medquad.tar.gz", "w:gz") as archive:
        for number, (focus, pairs) in enumerate(pages.items()):
            qa = "".join(
                f'<QAPair><Question qtype="{kind}">{question}</Question><Answer>{answer}</Answer></QAPair>'
                for kind, question, answer in pairs
            )
            cuis = "".join(f"<CUI>{code}</CUI>" for code in (codes or {}).get(focus, ()))
            xml = f"<Document><Focus>{focus}</Focus>{cuis}<QAPairs>{qa}</QAPairs></Document>".encode()
            info = tarfile.TarInfo(f"1_Some_QA/{number:07}.xml")
            info.size = len(xml)
            archive.addfile(info, io.BytesIO(xml))
