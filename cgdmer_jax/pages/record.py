"""Pages of `predict`: one for each recording, and an index of all of them."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from typing import Any

from cgdmer_jax import files
from cgdmer_jax.evaluators.scores import results
from cgdmer_jax.figures import paper
from cgdmer_jax.inference import output
from cgdmer_jax.inference.model import EcgModel
from cgdmer_jax.inference.output import FileOutcome
from cgdmer_jax.inference.result import Finding, RecordResult
from cgdmer_jax.pages import sentences, sheets, template
from cgdmer_jax.recordings import limb_leads

_REASONS = {
  "missing": "missing",
  "long_gap": "a gap is too long",
  "many_gaps": "too many gaps",
  "constant": "no signal",
}
_IN_INDEX = 3  # findings of a recording


@dataclasses.dataclass(frozen=True)
class _Row:
  """A line of the index."""

  file: str
  page: str
  status: str
  seconds: float | None
  findings: tuple[Finding, ...]
  remark: str

  @property
  def name(self) -> str:
    """The file without its folder."""
    return pathlib.Path(self.file).name

  @property
  def folder(self) -> str:
    """Where it lies; empty for the current folder."""
    folder = str(pathlib.Path(self.file).parent)
    return "" if folder == "." else folder


class Pages:
  """Writes pages of recordings into a folder as they come."""

  def __init__(self, directory: pathlib.Path, has_index: bool):
    """Prepares nothing yet.

    Args:
      directory: made if missing.
      has_index: whether there are several recordings, to be listed.
    """
    self._directory, self._has_index = directory, has_index
    self._rows: list[_Row] = []
    self._names = {"index"}
    self._model: EcgModel | None = None

  def add(self, model: EcgModel, outcome: FileOutcome) -> None:
    """Writes the page of a recording; a file that failed is only listed."""
    self._model = model
    result = outcome.result
    if result is None:
      row = _Row(outcome.file, "", outcome.status, None, (), outcome.reason)
      self._rows.append(row)
      return
    name = self._free_name(outcome.record)
    text = render(model, outcome.file, result, self._has_index)
    files.write(self._directory / f"{name}.html", text)
    found = output.distinct_findings(result)[:_IN_INDEX]
    self._rows.append(
      _Row(
        *(outcome.file, f"{name}.html", outcome.status),
        result.prepared.seconds,
        tuple(found),
        "; ".join(output.doubts(result)),
      )
    )

  def finish(self) -> pathlib.Path | None:
    """Writes the index, if any; where to begin to read, if there is a page."""
    if not self._has_index:
      pages = [row.page for row in self._rows if row.page]
      return self._directory / pages[0] if pages else None
    counts = [
      f"{sum(row.status == x for row in self._rows)} {x}"
      for x in dict.fromkeys(row.status for row in self._rows)
    ]
    paragraphs = [f"{len(self._rows)} files were read: {', '.join(counts)}."]
    if self._model:
      paragraphs += [_about(self._model), _calibration(self._model)]
    path = self._directory / "index.html"
    text = template.render(
      "index",
      title="ECG recordings",
      notice=output.NOTICE,
      sentences=paragraphs,
      rows=self._rows,
    )
    files.write(path, text)
    return path

  def _free_name(self, record: str) -> str:
    """A name of a page that no other recording has, on no file system."""
    plain = re.sub(r"[^\w.-]+", "_", record)[:80].strip(".") or "record"
    name, number = plain, 1
    while name.lower() in self._names:
      number += 1
      name = f"{plain}-{number}"
    self._names.add(name.lower())
    return name


def render(
  model: EcgModel, file: str, result: RecordResult, has_index: bool = False
) -> str:
  """The page of a recording.

  Args:
    model: what has read it.
    file: its name.
    result: what the model says of it.
    has_index: whether `index.html` lies beside the page.
  """
  prepared = result.prepared
  findings = output.distinct_findings(result)
  named = {x.code for x in findings}
  uncalibrated = {
    x.code: f"{x.name} ({x.code})" if x.name else x.code
    for x in result.findings
    if x.probability is None and x.code not in named
  }
  return template.render(
    "record",
    title=f"ECG {pathlib.Path(file).name}",
    notice=output.NOTICE,
    sentences=_sentences(model, file, result, findings),
    file=file,
    sheets=draw(result),
    derived=prepared.derived,
    doubts=output.doubts(result),
    findings=findings,
    num_first=output.SHOWN,
    uncalibrated=[*uncalibrated.values()],
    asked=result.sentences,
    evidence=result.evidence,
    facts=_facts(model, file, result),
    has_index=has_index,
  )


def draw(result: RecordResult) -> list[sheets.DrawnSheet]:
  """The whole recording in mV, as it is in the file, on paper."""
  recording, derived = limb_leads.derive(result.prepared.recording)
  missing = {
    name: _REASONS[fault]
    for name, fault in result.prepared.leads_missing.items()
    if name not in result.prepared.leads_used
  }
  arranged = paper.arrange(
    recording.signal / 1e3,
    recording.sampling_rate,
    missing=missing,
    derived=derived,
  )
  return [sheets.draw(sheet) for sheet in arranged]


def _sentences(
  model: EcgModel, file: str, result: RecordResult, findings: list[Finding]
) -> list[str]:
  """What was done."""
  prepared = result.prepared
  read = len(prepared.leads_used)
  first = (
    f"{pathlib.Path(file).name} holds {prepared.seconds:.1f} s of"
    f" {int(prepared.recording.present.sum())} leads at"
    f" {prepared.recording.sampling_rate:g} Hz; the model read {read} leads."
  )
  second = _about(model)
  if findings:
    best = findings[0]
    second += (
      f" Of {len(findings)} findings it holds {best.name or best.code} for the"
      f" most probable, with {best.probability:.0%}."
    )
  return [first, second, _calibration(model)]


def _about(model: EcgModel) -> str:
  trained = model.trained
  if trained.step is None:
    return f"The model {trained.name} has random weights."
  data = sentences.dataset(trained.config.data.dataset)
  return (
    f"The model {trained.name} was pretrained for {trained.step:,} steps on"
    f" {data}."
  )


def _calibration(model: EcgModel) -> str:
  readout = model.readout
  if readout is None:
    return "It has no calibrated labels: there are similarities only."
  text = (
    "Probabilities hold for recordings like those that they were calibrated on,"
    f" {readout.num_records:,} {sentences.dataset(readout.dataset)}; where"
    " findings are more or less frequent, they are wrong."
  )
  error = readout.measures.get("ece_after")
  if error is not None:
    text += f" Their expected calibration error was {error:.3f} there."
  return text


def _facts(
  model: EcgModel, file: str, result: RecordResult
) -> list[tuple[str, Any]]:
  prepared, trained = result.prepared, model.trained
  windows = prepared.windows
  missing = [
    f"{name} ({_REASONS[fault]})"
    for name, fault in prepared.leads_missing.items()
  ]
  versions = ", ".join(f"{k} {v}" for k, v in results.versions().items())
  facts = [
    ("File", file),
    ("Format", prepared.format),
    ("Leads read", ", ".join(prepared.leads_used)),
    ("Leads computed", ", ".join(prepared.derived)),
    ("Leads not read, or not everywhere", ", ".join(missing)),
    (
      "Windows",
      f"{len(windows.ecg)} of {windows.ecg.shape[2] / model.sampling_rate:g} s",
    ),
    ("Model", f"{trained.name}, step {trained.step}"),
    ("It reads", f"{model.sampling_rate} Hz"),
    ("Calibrated on", result.calibration),
    ("Versions", versions),
  ]
  return [(name, value) for name, value in facts if value]
