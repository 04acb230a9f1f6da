"""Results of many files as text, JSON or CSV."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from cgdmer_jax.errors import UserError
from cgdmer_jax.inference.model import EcgModel
from cgdmer_jax.inference.readout import Label
from cgdmer_jax.inference.result import Finding, RecordResult

NOTICE = "Research software, not a medical device: not for diagnosis."
FORMATS = ("table", "json", "csv")
SHOWN = 8  # findings of a record that are shown first
_COLUMNS = (
  "file", "record", "status", "reason", "format", "seconds", "sampling_rate",
  "leads_used", "leads_derived", "leads_missing", "quality", "warnings",
  "evidence", "calibration",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class FileOutcome:
  """What became of a file.

  Attributes:
    file: as it was named or found.
    status: ok, failed, or skipped: a file of a folder that is no recording.
    reason: why it failed or was skipped.
    result: of a file that is ok.
  """

  file: str
  status: str
  reason: str = ""
  result: RecordResult | None = None

  @property
  def record(self) -> str:
    """Its name without folder and suffix, to join tables by."""
    return pathlib.Path(self.file).stem

  def line(self) -> str:
    """One line that says how it went."""
    text = f"{self.status}: {self.file}"
    if self.result is None:
      return f"{text}: {self.reason}"
    lines = doubts(self.result)
    return f"{text}: {'; '.join(lines)}" if lines else text


def doubts(result: RecordResult) -> list[str]:
  """What may be wrong with a recording, a line each."""
  prepared = result.prepared
  missing = [f"{k} {v}" for k, v in prepared.leads_missing.items()]
  texts = [f"{x.kind}: {x.text}" for x in prepared.quality]
  if missing:
    texts.append(f"leads: {', '.join(missing)}")
  if prepared.derived:
    texts.append(f"derived: {', '.join(prepared.derived)}")
  return [*texts, *prepared.warnings]


def check_format(name: str) -> str:
  """The format, if there is one of this name.

  Raises:
    UserError: there is none.
  """
  if name not in FORMATS:
    raise UserError(f"--format={name}; expected one of {', '.join(FORMATS)}")
  return name


def render(
  outcomes: Iterable[FileOutcome],
  format_: str,
  model: EcgModel,
  sentences: Sequence[str],
) -> Iterator[str]:
  """Text of all outcomes, in pieces, as they come."""
  if format_ == "json":
    return _to_json(outcomes, model)
  if format_ == "csv":
    return _to_csv(outcomes, model, sentences)
  return _to_table(outcomes, model)


def _describe(model: EcgModel) -> dict[str, Any]:
  readout, trained = model.readout, model.trained
  about = {"name": trained.name, "step": trained.step}
  about |= {"sampling_rate": model.sampling_rate}
  if readout:
    about["calibration"] = {
      "dataset": readout.dataset,
      "num_records": readout.num_records,
      **readout.measures,
    }
  return about


def to_dict(outcome: FileOutcome) -> dict[str, Any]:
  """An outcome without its signals, for JSON."""
  head = {
    "file": outcome.file,
    "record": outcome.record,
    "status": outcome.status,
  }
  result = outcome.result
  if result is None:
    return head | {"reason": outcome.reason}
  prepared = result.prepared
  return head | {
    "format": prepared.format,
    "seconds": round(prepared.seconds, 3),
    "sampling_rate": prepared.recording.sampling_rate,
    "windows": [round(x, 3) for x in prepared.windows.starts],
    "leads_used": prepared.leads_used,
    "leads_derived": prepared.derived,
    "leads_missing": prepared.leads_missing,
    "quality": [dataclasses.asdict(x) for x in prepared.quality],
    "warnings": prepared.warnings,
    "calibration": result.calibration,
    "findings": [dataclasses.asdict(x) for x in result.findings],
    "sentences": [dataclasses.asdict(x) for x in result.sentences],
    "evidence": [dataclasses.asdict(x) for x in result.evidence],
  }


def _to_json(outcomes, model) -> Iterator[str]:
  head = {"notice": NOTICE, "model": _describe(model)}
  yield json.dumps(head, ensure_ascii=False)[:-1] + ', "records": [\n'
  separator = ""
  for outcome in outcomes:
    yield separator + json.dumps(to_dict(outcome), ensure_ascii=False)
    separator = ",\n"
  yield "\n]}\n"


def _column(label: Label) -> str:
  return f"{label.label_set}:{label.code}"


def _to_csv(outcomes, model, sentences) -> Iterator[str]:
  """A row for each file; probabilities, then cosines of the sentences."""
  labels = model.readout.labels if model.readout else ()
  names = [_column(x) for x in labels]
  yield _row([*_COLUMNS, *names, *sentences])
  for outcome in outcomes:
    fields = to_dict(outcome)
    cells = [_cell(fields.get(name, "")) for name in _COLUMNS]
    if outcome.result is None:
      yield _row([*cells, *[""] * (len(names) + len(sentences))])
      continue
    found = {
      f"{x.label_set}:{x.code}": x.probability for x in outcome.result.findings
    }
    values = [*(found[x] for x in names)]
    values += [x.similarity for x in outcome.result.sentences]
    yield _row(cells + ["" if x is None else f"{x:.6g}" for x in values])


def _cell(value: Any) -> str:
  if isinstance(value, dict):
    return "; ".join(f"{k} {v}" for k, v in value.items())
  if isinstance(value, list | tuple):
    parts = [x["text"] if isinstance(x, dict) else str(x) for x in value]
    return "; ".join(parts) if any(" " in x for x in parts) else " ".join(parts)
  return str(value)


def _row(cells: Sequence[str]) -> str:
  buffer = io.StringIO()
  csv.writer(buffer, lineterminator="\n").writerow(cells)
  return buffer.getvalue()


def _to_table(outcomes, model) -> Iterator[str]:
  has_findings = False
  for outcome in outcomes:
    result = outcome.result
    if result is None:
      if outcome.status == "failed":
        yield f"{outcome.file}\n  failed: {outcome.reason}\n"
      continue
    prepared = result.prepared
    has_findings |= bool(result.findings)
    yield (
      f"{outcome.file}\n  {prepared.format}, {prepared.seconds:.1f} s at"
      f" {prepared.recording.sampling_rate:g} Hz, leads"
      f" {' '.join(prepared.leads_used)}\n"
    )
    for doubt in doubts(result):
      yield f"  ! {doubt}\n"
    for finding in distinct_findings(result)[:SHOWN]:
      yield (
        f"  {finding.probability:6.1%}  {finding.name} ({finding.code})"
        f"  similarity {finding.similarity:.2f}\n"
      )
    for sentence in result.sentences:
      higher = ""
      if sentence.percentile is not None:
        higher = f", above {sentence.percentile:.0%} of recordings"
      yield f"  {sentence.similarity:6.3f}  {sentence.text!r}{higher}\n"
    for sentence in result.evidence:
      yield f"  near {sentence.similarity:.2f}: {sentence.text!r}\n"
  if has_findings:
    yield f"Probabilities are calibrated on {model.readout.dataset}.\n"
  yield f"{NOTICE}\n"


def distinct_findings(result: RecordResult) -> list[Finding]:
  """Findings with a probability; a code that several sets have, once."""
  distinct: dict[str, Finding] = {}
  for finding in result.findings:
    if finding.probability is not None:
      distinct.setdefault(finding.code, finding)
  return [*distinct.values()]
