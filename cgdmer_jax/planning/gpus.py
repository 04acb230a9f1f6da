"""Descriptions of GPUs that XLA compiles for without having one.

Fields and units are those of its `GpuTargetConfigProto`; numbers from NVIDIA's
data sheets and its tables of compute capabilities.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class _Gpu:
  """What differs between GPUs; bytes, bytes/s and GHz."""

  title: str
  capability: int  # major
  cores: int
  units: int  # of a core
  shared: int  # bytes of a core
  bandwidth: int
  cache: int
  clock: float
  memory: int


_GPUS = {
  "a100": _Gpu(
    title="NVIDIA A100-SXM4-80GB",
    capability=8,
    cores=108,
    units=64,
    shared=167936,
    bandwidth=2039 * 10**9,
    cache=41943040,
    clock=1.41,
    memory=85_097_971_712,
  ),
  "h100": _Gpu(
    title="NVIDIA H100 80GB HBM3",
    capability=9,
    cores=132,
    units=128,
    shared=233472,
    bandwidth=3352 * 10**9,
    cache=52428800,
    clock=1.98,
    memory=84_929_347_584,
  ),
}


def describe(name: str) -> str:
  """Describes a GPU to XLA; `name` is that of the chip."""
  gpu = _GPUS[name]
  return f"""
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: {gpu.shared}
  threads_per_core_limit: 2048
  core_count: {gpu.cores}
  fpus_per_core: {gpu.units}
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: {gpu.bandwidth}
  l2_cache_size: {gpu.cache}
  clock_rate_ghz: {gpu.clock}
  device_memory_size: {gpu.memory}
  shared_memory_per_block_optin: {gpu.shared - 1024}
  cuda_compute_capability {{ major: {gpu.capability} minor: 0 }}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 7 }}
runtime_version {{ major: 12 minor: 8 patch: 0 }}
device_description_str: "{gpu.title}"
"""
