"""How far simulated recordings are from real ones, without any label.

    python -m tests.benchmarks.simulation_gap --data_dir=DIR \
        --real=ptb_xl/100hz --figure=gap.png

Measures the median beat of each recording (rate, axis, QRS, and in each lead P,
Q, R, S, ST and T), its noise and its spectrum, and prints the quantiles of both
data sets. `*` marks a median that lies further off than 0.4 interquartile
ranges of the real values, or an interquartile range that is not between 0.6 and
1.6 of the real one. `--normal` takes only records with the label NORM: then use
splits that nothing is scored on.
"""

import argparse
import pathlib

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import scipy.signal
import wfdb.processing

from cgdmer_jax.data import index
from cgdmer_jax.data.leads import LEADS
from cgdmer_jax.data.source import EcgSource

RATE = 100  # Hz
BEFORE, AFTER = 35, 55  # samples of the median beat around its R peak
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
BANDS = ((0.3, 1), (1, 5), (5, 15), (15, 30), (30, 45))  # Hz


def median_beat(mv):
  """The median beat (12, 90) in mV, and RR intervals in seconds, or None."""
  b, a = scipy.signal.butter(2, 0.5 / (RATE / 2), "high")
  x = scipy.signal.filtfilt(b, a, mv, axis=1)
  fine = scipy.signal.resample_poly(x[1], 5, 2)  # 250 Hz, where xqrs is at home
  if np.ptp(fine) < 0.05:
    return None
  found = wfdb.processing.xqrs_detect(fine, 250, verbose=False)
  steep = np.sqrt((np.diff(x, axis=1) ** 2).sum(0))
  peaks = []
  for place in np.rint(np.asarray(found) * RATE / 250).astype(int):
    low, high = max(place - 8, 0), min(place + 9, len(steep))
    if high > low:
      peaks.append(low + int(np.argmax(steep[low:high])))
  peaks = [p for p in peaks if BEFORE < p < x.shape[1] - AFTER]
  if len(peaks) < 3:
    return None
  beat = np.median([x[:, p - BEFORE : p + AFTER] for p in peaks], axis=0)
  level = np.median(beat[:, BEFORE - 9 : BEFORE - 6], axis=1, keepdims=True)
  return beat - level, np.diff(peaks) / RATE


def qrs_bounds(beat):
  """First and last sample of QRS: where all leads together are steep."""
  steep = np.sqrt((np.diff(beat, axis=1) ** 2).sum(0))
  limit = 0.12 * steep.max()
  start = end = BEFORE
  while start > 22 and max(steep[start - 1], steep[start - 2]) > limit:
    start -= 1
  while end < 62 and max(steep[end], steep[end + 1]) > limit:
    end += 1
  return start, end


def measure(mv):
  """Quantities of a recording (12, 1000) in mV, or None without beats."""
  found = median_beat(mv)
  if found is None:
    return None
  beat, rr = found
  start, end = qrs_bounds(beat)
  whole = beat[:, 28:46]
  net = whole.max(1) + whole.min(1)
  out = {
    "RR s": np.median(rr),
    "RR sd": rr.std() / np.median(rr),
    "QRS s": (end - start) / RATE,
    "axis": np.degrees(np.arctan2(net[5], net[0])),
  }
  for i, lead in enumerate(LEADS):
    qrs, tail = beat[i, start - 1 : end + 1], beat[i, end + 8 : BEFORE + 42]
    out[f"P {lead}"] = beat[i, 11 : start - 2].max() - np.median(beat[i, 11:14])
    out[f"Q {lead}"] = -min(beat[i, start : start + 4].min(), 0.0)
    out[f"R {lead}"], out[f"S {lead}"] = qrs.max(), -qrs.min()
    out[f"ST {lead}"] = beat[i, end + 4 : end + 8].mean()
    out[f"T {lead}"] = tail[np.argmax(np.abs(tail))]
  smooth = scipy.signal.savgol_filter(mv, 7, 2, axis=1)
  out["noise uV"] = 1000 * np.median(np.abs(mv - smooth))
  frequency, power = scipy.signal.welch(mv, RATE, nperseg=256, axis=1)
  for low, high in BANDS:
    band = power.mean(0)[(frequency >= low) & (frequency < high)]
    out[f"log10 power {low}-{high} Hz"] = np.log10(band.mean() + 1e-12)
  return out


def collect(name, split, data_dir, most, normal):
  """Quantity -> values of the records of a split."""
  source = EcgSource(name, split, data_dir)
  numbers = np.arange(len(source))
  if normal:
    normals = list(source.label_sets["all"]).index("NORM")
    labels = index.load_index(source).labels["all"]
    numbers = np.flatnonzero(labels[:, normals])
  rows = [measure(source.signal(int(i))["ecg"] / 1000) for i in numbers[:most]]
  rows = [row for row in rows if row]
  return {key: np.array([row[key] for row in rows]) for key in rows[0]}


def draw(simulated, real, path):
  """Distributions side by side, one panel a quantity."""
  columns = 8
  rows = -(-len(real) // columns)
  figure, axes = plt.subplots(rows, columns, figsize=(2 * columns, 1.6 * rows))
  for axis in axes.flat[len(real) :]:
    axis.set_axis_off()
  for axis, key in zip(axes.flat, real, strict=False):
    bounds = np.quantile(np.r_[simulated[key], real[key]], (0.01, 0.99))
    bins = np.linspace(*bounds, 25)
    for values, colour in ((simulated[key], "#D55E00"), (real[key], "#0072B2")):
      axis.hist(values, bins, density=True, histtype="step", color=colour)
    axis.set_title(key, fontsize=8)
    axis.set_yticks([])
    axis.tick_params(labelsize=6)
  figure.suptitle("simulated (orange) and real (blue); amplitudes in mV")
  figure.tight_layout()
  figure.savefig(path, dpi=120)


def main():
  """Prints the table, and draws the figure."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--data_dir", type=pathlib.Path, required=True)
  parser.add_argument("--simulated", default="synthetic_ecg/demo")
  parser.add_argument("--real", default="ptb_xl/100hz")
  parser.add_argument("--simulated_split", default="validation")
  parser.add_argument("--real_split", default="train")
  parser.add_argument("--most", type=int, default=1000)
  parser.add_argument("--normal", action="store_true")
  parser.add_argument("--figure", type=pathlib.Path)
  args = parser.parse_args()
  simulated, real = (
    collect(name, split, args.data_dir, args.most, args.normal)
    for name, split in (
      (args.simulated, args.simulated_split),
      (args.real, args.real_split),
    )
  )
  print(f"{'':24}{'simulated':^40}{'real':^40}")
  print(f"{'quantile':24}" + 2 * "".join(f"{q:8.2f}" for q in QUANTILES))
  for key, values in real.items():
    a, b = (np.quantile(x, QUANTILES) for x in (simulated[key], values))
    spread = b[3] - b[1] + 1e-9
    differs = abs(a[2] - b[2]) > 0.4 * spread
    differs |= not 0.6 < (a[3] - a[1]) / spread < 1.6
    numbers = "".join(f"{x:8.2f}" for x in (*a, *b))
    print(f"{key:24}{numbers}{' *' if differs else ''}")
  if args.figure:
    draw(simulated, real, args.figure)


if __name__ == "__main__":
  main()
