import dataclasses

import numpy as np
import pytest

from cgdmer_jax.data.leads import LEADS
from cgdmer_jax.recordings import limb_leads, quality, signals


def beats(leads=LEADS, rate=500, seconds=10):
  """R waves of 1 mV at 60/min, T waves; aVR points down."""
  t = np.arange(seconds * rate) / rate % 1
  wave = np.exp(-(((t - 0.3) / 0.015) ** 2)) + 0.2 * np.exp(
    -(((t - 0.55) / 0.06) ** 2)
  )
  rng = np.random.default_rng(0)
  size = dict.fromkeys(LEADS, 1000.0) | {"I": 700.0, "II": 1100.0}
  rows = [size[x] * wave + rng.normal(0, 3, wave.size) for x in leads]
  return signals.recording(leads, rows, 1.0, rate)


def clean():
  """All leads, with limb leads that fit together."""
  return limb_leads.derive(beats(("I", "II", *LEADS[6:])))[0]


def changed(**rows):
  recording = clean()
  signal = recording.signal.copy()
  for name, change in rows.items():
    signal[LEADS.index(name)] = change(signal[LEADS.index(name)])
  return dataclasses.replace(recording, signal=signal)


def kinds(recording, usual=None):
  return {(x.kind, x.leads) for x in quality.check(recording, usual)}


def test_a_good_recording_has_no_flag():
  assert not kinds(clean(), (0.5, 3.0))


def test_each_fault_is_seen_in_its_lead():
  rng = np.random.default_rng(1)
  half = lambda x: np.where(np.arange(x.size) < x.size / 2, 0, x)  # noqa: E731
  assert kinds(changed(V2=half)) == {("flat", ("V2",))}
  clip = lambda x: np.minimum(x, 400)  # noqa: E731
  assert kinds(changed(V3=clip)) == {("clipped", ("V3",))}
  noise = lambda x: x + rng.normal(0, 100, x.size)  # noqa: E731
  assert kinds(changed(V4=noise)) == {("noise", ("V4",))}


def test_limb_leads_that_do_not_belong_together():
  found = kinds(changed(III=lambda x: -x))
  assert found == {("limb_leads", ("I", "II", "III"))}


def test_exchanged_arms():
  """I turned over, II and III exchanged, aVR and aVL exchanged."""
  recording = clean()
  order = [0, 2, 1, 4, 3, 5, *range(6, 12)]
  signal = recording.signal[order].copy()
  signal[0] *= -1
  swapped = dataclasses.replace(recording, signal=signal)
  assert kinds(swapped) == {("limb_leads", ("I", "V6"))}
  present = recording.present.copy()
  present[6:] = False
  signal[1] = signal[0] * 0.2  # then aVR is upright
  signal[:6] = limb_leads.derive(
    signals.recording(("I", "II"), signal[:2], 1.0, 500)
  )[0].signal[:6]
  alone = dataclasses.replace(swapped, signal=signal, present=present)
  assert kinds(alone) == {("limb_leads", ("I", "aVR"))}


@pytest.mark.parametrize(
  ("factor", "text"),
  [(1e-3, "too small"), (1e3, "too large"), (0.08, "unusual")],
)
def test_amplitude_beside_training(factor, text):
  recording = clean()
  scaled = dataclasses.replace(recording, signal=recording.signal * factor)
  [flag] = [
    x for x in quality.check(scaled, (0.5, 3.0)) if x.kind == "amplitude"
  ]
  assert text in flag.text


def test_amplitude_of_leads_without_samples():
  recording = changed(V1=lambda x: x * np.nan)
  assert quality.amplitude_mv(recording) == pytest.approx(1.0, rel=0.1)
  nothing = dataclasses.replace(recording, present=np.zeros(12, bool))
  assert np.isnan(quality.amplitude_mv(nothing))
