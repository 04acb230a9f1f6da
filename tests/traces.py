"""What is in a trace of jax.profiler."""

import jax


def steps(content):
  """Numbers of the annotated steps, from the bytes of an `.xplane.pb`."""
  data = jax.profiler.ProfileData.from_serialized_xspace(content)
  found = {
    value
    for plane in data.planes
    for line in plane.lines
    for event in line.events
    if event.name == "train"
    for key, value in event.stats
    if key == "step_num"
  }
  return sorted(found)
